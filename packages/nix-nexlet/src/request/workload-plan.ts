import { constants } from 'node:os';
import type { EncryptedEnvironment, Lifecycle } from '@nex-nix/protocol';
import { splitStorePath, type StorePath } from '@nex-nix/nix';
import type { Network, Resources, RuntimeName } from '@nex-nix/sandbox';
import { Errors } from 'typebox/value';
import { NixNexletError } from '../nix-nexlet-error.ts';
import { NixStartRequest } from './nix-start-request.ts';
import { bytesOf, millisecondsOf } from './units.ts';

/** What the node gives a workload that asks for nothing. */
export interface WorkloadDefaults {
  sandbox: RuntimeName;
  /** Those in a `microvm` get `bridge` where this is `host`, which they cannot have. */
  network: Network;
  /** In bytes; undefined = no limit. */
  memory: number | undefined;
  cpus: number | undefined;
  pids: number | undefined;
  /** Size of `/tmp` in bytes. */
  tmp: number;
  /** Bytes a second of each output stream; undefined = no limit. */
  logRate: number | undefined;
  stopSignal: string;
  /** Time between the stop signal and SIGKILL, in milliseconds. */
  stopGraceMs: number;
}

export const DEFAULTS: WorkloadDefaults = {
  sandbox: 'oci',
  network: 'host',
  memory: 256 * 2 ** 20,
  cpus: undefined,
  pids: 256,
  tmp: 64 * 2 ** 20,
  logRate: 2 ** 20,
  stopSignal: 'SIGTERM',
  stopGraceMs: 10_000,
};

/** When a program that has ended is started again. */
export interface RestartPlan {
  readonly policy: 'always' | 'on-failure' | 'never';
  /** Failures in a row before it is given up; Infinity: never. */
  readonly maxRetries: number;
  /** Milliseconds before the first restart; doubled with each one after it. */
  readonly backoffMs: number;
}

/** How it is found out whether a program does its work. */
export interface HealthPlan {
  readonly probe:
    | { readonly kind: 'nats'; readonly subject: string }
    | { readonly kind: 'tcp'; readonly port: number }
    | { readonly kind: 'http'; readonly port: number; readonly path: string }
    /** `program` is relative to the store path. */
    | { readonly kind: 'exec'; readonly program: string; readonly argv: readonly string[] };
  /** Between two checks, in milliseconds. */
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Failures in a row that restart it. */
  readonly retries: number;
  /** How long it may take until the first success, in milliseconds. */
  readonly startTimeoutMs: number;
}

/** How a function is invoked. */
export interface FunctionPlan {
  readonly triggers: readonly string[];
  /** Invocations at once. */
  readonly concurrency: number;
  /** Sandboxes kept ready. */
  readonly warm: number;
  /** Of one invocation, in milliseconds. */
  readonly timeoutMs: number;
}

/** A start request with defaults filled in and units resolved: bytes and milliseconds. */
export interface WorkloadPlan {
  readonly storePath: StorePath;
  /** Relative to the store path; undefined = to be chosen from `bin/`. */
  readonly program: string | undefined;
  readonly argv: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** More of the environment, sealed for the nexlet; goes before `environment`. */
  readonly sealed: EncryptedEnvironment | undefined;
  readonly sandbox: RuntimeName;
  readonly network: Network;
  /** TCP ports; those of this machine too with network `bridge`. */
  readonly exposePorts: readonly number[];
  readonly resources: Resources;
  /** What the request itself asks for, defaults left out; of a function for all invocations that may run at once. */
  readonly reservation: { memory?: number; cpus?: number };
  readonly restart: RestartPlan;
  readonly stop: { signal: string; graceMs: number };
  readonly health: HealthPlan | undefined;
  /** Of workloads of that lifecycle, and of no others. */
  readonly function: FunctionPlan | undefined;
}

/** Checks a start request and fills in the defaults; throws NIX_NEXLET_REQUEST_INVALID naming the field. */
export function planWorkload(
  request: unknown,
  lifecycle: Lifecycle,
  defaults: WorkloadDefaults = DEFAULTS,
): WorkloadPlan {
  const [first] = Errors(NixStartRequest, request);
  if (first !== undefined) throw invalid(first.instancePath.slice(1).replaceAll('/', '.') || 'request', first.message);
  const checked = request as NixStartRequest;
  const { storePath, subPath } = splitStorePath(checked.store_path);
  if (subPath !== '' && checked.program !== undefined) {
    throw invalid('program', `must be absent when store_path already names the file "${subPath}"`);
  }
  const program = checked.program ?? (subPath === '' ? undefined : subPath);
  if (program !== undefined) checkRelative('program', program);
  checkVariables(checked.environment ?? {}, 'environment');
  checkArguments('argv', checked.argv);
  const sandbox = checked.sandbox ?? defaults.sandbox;
  const network = planNetwork(checked, sandbox, defaults);
  const functionPlan = planFunction(checked, lifecycle);
  return {
    storePath,
    program,
    argv: checked.argv ?? [],
    environment: checked.environment ?? {},
    sealed: checked.encrypted_environment,
    sandbox,
    network,
    exposePorts: planPorts(checked, network),
    resources: planResources(checked, defaults),
    reservation: planReservation(checked, functionPlan?.concurrency ?? 1),
    restart: planRestart(checked, lifecycle),
    stop: {
      signal: checkSignal(checked.stop?.signal ?? defaults.stopSignal),
      graceMs: duration('stop.grace', checked.stop?.grace, defaults.stopGraceMs),
    },
    health: planHealth(checked, lifecycle, network),
    function: functionPlan,
  };
}

/** Who waits for a stop waits so long, in milliseconds; no other duration makes sense beyond it either. */
const MAX_DURATION = 3_600_000;

/** `256MiB` → bytes. */
export function parseSize(text: string): number {
  const bytes = bytesOf(text);
  if (bytes === undefined)
    throw invalid('size', `"${text}" is no size, or out of all bounds; write for example 256MiB`);
  return bytes;
}

function planResources({ resources = {} }: NixStartRequest, defaults: WorkloadDefaults): Resources {
  const size = (text: string | undefined, otherwise: number | undefined) =>
    text === undefined ? otherwise : parseSize(text);
  return withoutUndefined({
    memory: size(resources.memory, defaults.memory),
    cpus: resources.cpus ?? defaults.cpus,
    pids: resources.pids ?? defaults.pids,
    tmp: size(resources.tmp, defaults.tmp),
    logRate: size(resources.log_rate, defaults.logRate),
  });
}

function planReservation({ resources: { memory, cpus } = {} }: NixStartRequest, times: number) {
  return withoutUndefined({
    memory: memory === undefined ? undefined : parseSize(memory) * times,
    cpus: cpus === undefined ? undefined : cpus * times,
  });
}

function planNetwork({ network }: NixStartRequest, sandbox: RuntimeName, defaults: WorkloadDefaults): Network {
  if (sandbox !== 'microvm') return network ?? defaults.network;
  if (network === 'host') throw invalid('network', 'of a microvm is "bridge" or "none": it has a kernel of its own');
  return network ?? (defaults.network === 'host' ? 'bridge' : defaults.network);
}

function planPorts({ expose_ports: ports = [] }: NixStartRequest, network: Network): readonly number[] {
  if (ports.length > 0 && network === 'none') throw invalid('expose_ports', 'needs a network other than "none"');
  return ports;
}

function planRestart({ restart = {} }: NixStartRequest, lifecycle: Lifecycle): RestartPlan {
  const isJob = lifecycle === 'job';
  const policy = restart.policy ?? (isJob ? 'never' : 'always');
  if (isJob && policy === 'always') throw invalid('restart.policy', 'of a job is "on-failure" or "never"');
  return {
    policy,
    maxRetries: restart.max_retries ?? (isJob ? 3 : Infinity),
    backoffMs: duration('restart.backoff', restart.backoff, 1_000),
  };
}

function planHealth({ health }: NixStartRequest, lifecycle: Lifecycle, network: Network): HealthPlan | undefined {
  if (health === undefined) return undefined;
  if (lifecycle !== 'service') throw invalid('health', `is checked of services alone, not of a ${lifecycle}`);
  return {
    probe: planProbe(health, network),
    intervalMs: atLeast(10, 'health.interval', health.interval, 10_000),
    timeoutMs: atLeast(10, 'health.timeout', health.timeout, 2_000),
    retries: health.retries ?? 3,
    startTimeoutMs: atLeast(10, 'health.start_timeout', health.start_timeout, 60_000),
  };
}

function planProbe(
  { nats, tcp, http, exec }: NonNullable<NixStartRequest['health']>,
  network: Network,
): HealthPlan['probe'] {
  if ([nats, tcp, http, exec].filter((probe) => probe !== undefined).length !== 1) {
    throw invalid('health', 'must have one of nats, tcp, http and exec');
  }
  if (network === 'none' && (tcp !== undefined || http !== undefined)) {
    throw invalid('health', 'of a workload without network can be exec alone');
  }
  if (nats !== undefined) {
    if (!/^[^\s.*>]+(\.[^\s.*>]+)*$/.test(nats)) throw invalid('health.nats', `"${nats}" is no subject to send to`);
    return { kind: 'nats', subject: nats };
  }
  if (tcp !== undefined) return { kind: 'tcp', port: tcp };
  if (http !== undefined) return { kind: 'http', port: http.port, path: http.path ?? '/' };
  const [program = '', ...argv] = exec ?? [];
  checkRelative('health.exec', program);
  checkArguments('health.exec', argv);
  return { kind: 'exec', program, argv };
}

function planFunction(
  { triggers = [], function: limits, expose_ports: ports = [] }: NixStartRequest,
  lifecycle: Lifecycle,
): FunctionPlan | undefined {
  if (lifecycle !== 'function') {
    if (triggers.length > 0) throw invalid('triggers', `are for functions alone, not for a ${lifecycle}`);
    if (limits !== undefined) throw invalid('function', `is for functions alone, not for a ${lifecycle}`);
    return undefined;
  }
  if (triggers.length === 0) throw invalid('triggers', 'must name a subject: nothing else invokes a function');
  // Its sandboxes would be in each other's way.
  if (ports.length > 0) throw invalid('expose_ports', 'are for services and jobs, not for a function');
  return {
    triggers,
    concurrency: limits?.concurrency ?? 8,
    warm: limits?.warm ?? 2,
    timeoutMs: atLeast(1, 'function.timeout', limits?.timeout, 30_000),
  };
}

function duration(field: string, text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  const milliseconds = millisecondsOf(text);
  if (milliseconds > MAX_DURATION) throw invalid(field, `"${text}" is more than an hour`);
  return milliseconds;
}

// oxlint-disable-next-line max-params -- a bound, and what it bounds
function atLeast(least: number, field: string, text: string | undefined, otherwise: number): number {
  const milliseconds = duration(field, text, otherwise);
  if (milliseconds < least) throw invalid(field, `"${text}" is less than ${least}ms`);
  return milliseconds;
}

function checkSignal(name: string): string {
  if (name in constants.signals) return name;
  throw invalid('stop.signal', `"${name}" is no signal of this machine`);
}

function checkRelative(field: string, program: string): void {
  const unsafe =
    program.startsWith('/') ||
    program.includes('\0') ||
    program.split('/').some((part) => part === '..' || part === '.' || part === '');
  if (unsafe) throw invalid(field, `"${program}" must be a plain path below the store path`);
}

function checkArguments(field: string, argv: readonly string[] | undefined): void {
  if (argv?.some((argument) => argument.includes('\0'))) throw invalid(field, 'holds a NUL character');
}

/** Throws NIX_NEXLET_REQUEST_INVALID unless a workload can be given these variables. `field`: where they come from. */
export function checkVariables(environment: Readonly<Record<string, string>>, field: string): void {
  for (const [name, value] of Object.entries(environment)) {
    // The value stays out of the message: it may be a secret.
    if (value.includes('\0')) throw invalid(field, `gives "${name}" a value with a NUL character`);
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) throw invalid(field, `"${name}" is no name of a variable`);
    if (name.startsWith('NEX_'))
      throw invalid(field, `"${name}" is set by the node; names that begin with NEX_ are reserved`);
  }
}

function invalid(field: string, what: string): NixNexletError {
  return new NixNexletError('NIX_NEXLET_REQUEST_INVALID', `Cannot run this start request: ${field} ${what}`);
}

function withoutUndefined<T extends object>(value: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, entry]) => entry !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
