import { closeSync, openSync } from 'node:fs';
import type { Logger } from '@nex-nix/nexlet';
import { multistream, pino, type StreamEntry } from 'pino';
import { PinoPretty } from 'pino-pretty';
import { CliError } from './cli-error.ts';
import type { GlobalOptions } from './global-options.ts';

/** How pino-pretty writes the time formats of Go nex. */
const TIME_FORMATS: Readonly<Record<string, string>> = {
  DateTime: 'SYS:yyyy-mm-dd HH:MM:ss',
  TimeOnly: 'SYS:HH:MM:ss',
  DateOnly: 'SYS:yyyy-mm-dd',
  Stamp: 'SYS:mmm d HH:MM:ss',
  RFC822: 'SYS:dd mmm yy HH:MM Z',
  RFC3339: "SYS:yyyy-mm-dd'T'HH:MM:ss.lo",
};

/** Log lines on stderr, and in files where `--logger.target` says so: readable on a terminal, JSON otherwise or with `--json`. */
export function createLogger(globals: GlobalOptions): Logger {
  const level = globals.debug === true ? 'debug' : (globals['logger.level'] ?? 'info');
  const targets = (globals['logger.target'] ?? 'std').split(',').map((target) => target.trim());
  const streams: StreamEntry[] = [];
  for (const target of targets) {
    if (target === 'std') streams.push({ level: 'trace', stream: formatted(globals, 2, process.stderr.isTTY) });
    else if (target === 'file') streams.push(...files(globals));
    else {
      throw new CliError('CLI_USAGE', `Cannot log to "${target}": lines go to std or file`, {
        hint: 'What nodes and workloads do is on NATS anyway: nex events, nex logs',
      });
    }
  }
  return pino({ level }, multistream(streams));
}

/** As Go nex has it: nex.log holds everything, nex.err what went wrong; both begin anew. */
function files(globals: GlobalOptions): StreamEntry[] {
  const open = (file: string): number => {
    closeSync(openSync(file, 'w'));
    return openSync(file, 'a');
  };
  return [
    { level: 'trace', stream: formatted(globals, open('nex.log'), false) },
    { level: 'error', stream: formatted(globals, open('nex.err'), false) },
  ];
}

function formatted(globals: GlobalOptions, destination: number, isTerminal: boolean): StreamEntry['stream'] {
  const asked = ['logger.color', 'logger.short', 'logger.withPid', 'logger.groupOnRight'] as const;
  const isReadable = isTerminal || asked.some((name) => globals[name] === true);
  if (globals.json === true || !isReadable) return pino.destination({ dest: destination, sync: true });
  return PinoPretty({
    destination,
    sync: true,
    colorize: globals['logger.color'] ?? (isTerminal && !process.env['NO_COLOR']),
    ignore: globals['logger.withPid'] === true ? 'hostname' : 'pid,hostname',
    translateTime: TIME_FORMATS[globals['logger.timefmt'] ?? 'DateTime'] ?? 'SYS:yyyy-mm-dd HH:MM:ss',
    ...(globals['logger.short'] === true ? { customPrettifiers: { level: shortLevel }, customLevels: '' } : {}),
    singleLine: true,
  });
}

function shortLevel(level: unknown): string {
  return pino.levels.labels[Number(level)]?.slice(0, 3).toUpperCase() ?? String(level);
}
