import type { Lifecycle } from '@nex-nix/protocol';
import { CliError } from '../cli-error.ts';
import { parseBytes } from '../units.ts';
import type { RunRequestOptions } from './run-request-options.ts';

type Fields = Readonly<Record<string, unknown>>;

/** The ways to find out about health, of which a request has one. */
const PROBES = ['nats', 'tcp', 'http', 'exec'];

/** The fields of a start request that options stand for; what was not given is absent. */
export function runRequestOf(options: RunRequestOptions): Fields {
  const { sandbox, network, expose, trigger } = options;
  const { memory, cpus, pids, tmp, logRate, restart, backoff } = options;
  const { health, healthInterval, healthTimeout, healthRetries, startTimeout } = options;
  return defined({
    sandbox,
    network,
    expose_ports: expose === undefined ? undefined : [...new Set(expose)],
    resources: group({ memory, cpus, pids, tmp, log_rate: logRate }),
    restart: group({ ...restart, backoff }),
    health: group({
      ...health,
      interval: healthInterval,
      timeout: healthTimeout,
      retries: healthRetries,
      start_timeout: startTimeout,
    }),
    triggers: trigger,
    function: group({ timeout: options.functionTimeout, concurrency: options.concurrency, warm: options.warm }),
    stop: group({ signal: options.stopSignal, grace: options.stopGrace }),
  });
}

/**
 * A start request with fields of another put over it; those that are groups are put together field by field. Another
 * way to check health takes the place of the one before.
 *
 * @throws {CliError} CLI_USAGE when `base` is no object
 */
export function mergeRunRequest(base: unknown, changes: Fields): unknown {
  if (Object.keys(changes).length === 0) return base;
  if (!isObject(base)) throw new CliError('CLI_USAGE', 'Cannot use the start request: it is no JSON object');
  const merged = Object.entries(changes).map(([key, change]) => {
    const old = base[key];
    if (!isObject(change) || !isObject(old)) return [key, change];
    return [key, { ...(key === 'health' ? withoutProbe(old, change) : old), ...change }];
  });
  return { ...base, ...Object.fromEntries(merged) };
}

function withoutProbe(old: Fields, change: Fields): Fields {
  if (!PROBES.some((probe) => probe in change)) return old;
  return Object.fromEntries(Object.entries(old).filter(([key]) => !PROBES.includes(key)));
}

/** What nodes must have for a start request: a kind of sandbox, memory in bytes, processors, ports that are free. */
export function needsOf(request: unknown): Fields {
  if (!isObject(request)) return {};
  const { memory, cpus } = isObject(request['resources']) ? request['resources'] : {};
  const ports = request['expose_ports'];
  const sandbox = request['sandbox'];
  return defined({
    sandbox: typeof sandbox === 'string' ? sandbox : undefined,
    memory: typeof memory === 'string' ? sizeOf(memory) : undefined,
    cpus: typeof cpus === 'number' ? cpus : undefined,
    ports: Array.isArray(ports) && ports.length > 0 ? (ports as unknown[]) : undefined,
  });
}

/** Undefined when it is no size: the nexlet says so in its own words. */
function sizeOf(text: string): number | undefined {
  try {
    return parseBytes(text);
  } catch (error) {
    if (error instanceof CliError) return undefined;
    throw error;
  }
}

/** How a workload lives when nobody says it: a function when it has triggers. */
export function lifecycleOf(request: unknown): Lifecycle {
  const triggers = isObject(request) ? request['triggers'] : undefined;
  return Array.isArray(triggers) && triggers.length > 0 ? 'function' : 'service';
}

/**
 * Options that make no sense together with what else is said.
 *
 * @throws {CliError} CLI_USAGE
 */
export function checkRunRequestOptions(
  options: RunRequestOptions,
  { type, lifecycle }: { type: string; lifecycle: Lifecycle | undefined },
): void {
  const [given] = Object.keys(runRequestOf(options));
  if (type !== 'nix' && given !== undefined) {
    throw new CliError('CLI_USAGE', `Cannot say how a workload of type "${type}" runs by options of type nix`, {
      hint: 'Put it into --start-request, as the nexlet of that type has it',
    });
  }
  if (lifecycle !== undefined && lifecycle !== 'function' && options.trigger !== undefined) {
    throw new CliError('CLI_USAGE', `Cannot trigger a ${lifecycle}: --trigger is for functions`, {
      hint: 'Leave --lifecycle out, or give --lifecycle function',
    });
  }
  if (options.sandbox === 'microvm' && options.network === 'host') {
    throw new CliError('CLI_USAGE', 'Cannot give a microvm the network of its machine: it has a kernel of its own', {
      hint: 'Give --network bridge or none, or leave it out',
    });
  }
  if (options.network === 'none' && options.expose !== undefined) {
    throw new CliError('CLI_USAGE', 'Cannot expose ports of a workload without network', {
      hint: 'Give --network bridge, or leave --expose out',
    });
  }
}

function group(fields: Fields): Fields | undefined {
  const given = defined(fields);
  return Object.keys(given).length === 0 ? undefined : given;
}

function defined(fields: Fields): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
