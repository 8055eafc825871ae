import { formatBytes } from './output.ts';
import { friendlyDuration } from './parse.ts';

type Metadata = Readonly<Record<string, string>>;

/** Names in the metadata of a summary that {@link lifeOf} and {@link usageOf} show. */
const SHOWN = [
  'restarts',
  'health',
  'health_failure',
  'crash_loop',
  'next_start',
  'invocations',
  'failed_invocations',
  'average_duration',
  'invocation_seconds',
  'exit_code',
  'cpu_percent',
  'cpu_seconds',
  'memory_bytes',
  'memory_peak_bytes',
  'machine_memory_bytes',
  'pids',
  'network_rx_bytes',
  'network_tx_bytes',
];

/** How a workload has fared so far, in a few words for a line of a list; empty when there is nothing to say. */
export function lifeOf(metadata: Metadata = {}): string {
  const { health, exit_code: exitCode } = metadata;
  const [restarts, invocations, failures] = ['restarts', 'invocations', 'failed_invocations'].map((key) =>
    figure(metadata, key),
  );
  const parts = [
    health === undefined || health === 'healthy' ? '' : health,
    exitCode === undefined ? '' : `exit code ${exitCode}`,
    counted(restarts, 'restart'),
    counted(invocations, 'invocation'),
    failures === undefined || failures === 0 ? '' : `${failures} failed`,
  ];
  return parts.filter((part) => part !== '').join(', ');
}

/** What a workload used when it was measured last, in people's units; nothing where nothing is known. */
export function usageOf(metadata: Metadata = {}): (readonly [string, string | undefined])[] {
  const number = (key: string) => figure(metadata, key);
  const [percent, seconds] = [number('cpu_percent'), number('cpu_seconds')];
  const [memory, peak, machine] = ['memory_bytes', 'memory_peak_bytes', 'machine_memory_bytes'].map(number);
  const [received, sent] = [number('network_rx_bytes'), number('network_tx_bytes')];
  const [count, total] = [number('invocations'), number('invocation_seconds')];
  const average = count === undefined || total === undefined || count === 0 ? undefined : (total / count) * 1_000;
  return [
    ['Processor', joined(percent === undefined ? '' : `${percent} %`, seconds === undefined ? '' : timeOf(seconds))],
    [
      'Memory',
      joined(
        bytes(memory),
        peak === undefined ? '' : `peak ${formatBytes(peak)}`,
        machine === undefined ? '' : `its machine ${formatBytes(machine)}`,
      ),
    ],
    ['Processes', metadata['pids']],
    [
      'Network',
      joined(received === undefined ? '' : `in ${bytes(received)}`, sent === undefined ? '' : `out ${bytes(sent)}`),
    ],
    [
      'Invocations',
      joined(metadata['invocations'] ?? '', average === undefined ? '' : `${average.toFixed(1)} ms on average`),
    ],
    ['Failures', metadata['failed_invocations']],
  ];
}

/** What is left of the metadata beside what is shown by name. */
export function othersOf(metadata: Metadata = {}): Record<string, string> {
  return Object.fromEntries(Object.entries(metadata).filter(([key]) => !SHOWN.includes(key)));
}

function timeOf(seconds: number): string {
  const shown = seconds < 60 ? `${seconds.toFixed(1)}s` : friendlyDuration(seconds * 1_000);
  return `${shown} so far`;
}

function bytes(count: number | undefined): string {
  return count === undefined ? '' : formatBytes(count);
}

function joined(...parts: string[]): string | undefined {
  return parts.filter((part) => part !== '').join(', ') || undefined;
}

function counted(count: number | undefined, what: string): string {
  return count === undefined || count === 0 ? '' : `${count} ${what}${count === 1 ? '' : 's'}`;
}

/** Nexlets of others may have anything there. */
function figure(metadata: Metadata, key: string): number | undefined {
  const text = metadata[key];
  return text !== undefined && /^\d+(\.\d+)?$/.test(text) ? Number(text) : undefined;
}
