import { constants } from 'node:os';
import { EncryptedEnvironment } from '@nex-nix/protocol';
import { splitStorePath, type StorePath } from '@nex-nix/nix';
import { type Static, Type } from 'typebox';
import { Errors } from 'typebox/value';
import { NixNexletError } from './nix-nexlet-error.ts';

const SIZE = '^[0-9]+(\\.[0-9]+)?(B|KiB|MiB|GiB)$';

/**
 * The start request of workloads of type `nix`, published as JSON Schema at registration.
 * Only keywords that draft-07 has: Go's validators read it too.
 */
export const NixStartRequest = Type.Object(
  {
    store_path: Type.String({
      description: 'What to run: /nix/store/<hash>-<name>, or a file below one',
      pattern: '^/nix/store/[0-9a-z]{32}-[A-Za-z0-9+._?=-]+(/.*)?$',
    }),
    program: Type.Optional(
      Type.String({
        minLength: 1,
        description: 'Path of the program, relative to the store path; default: the only one in bin/',
      }),
    ),
    argv: Type.Optional(Type.Array(Type.String())),
    environment: Type.Optional(Type.Record(Type.String(), Type.String())),
    encrypted_environment: Type.Optional(EncryptedEnvironment),
    sandbox: Type.Optional(Type.Literal('oci')),
    network: Type.Optional(Type.Union([Type.Literal('host'), Type.Literal('none')])),
    resources: Type.Optional(
      Type.Object(
        {
          memory: Type.Optional(Type.String({ pattern: SIZE, description: 'For example 256MiB' })),
          cpus: Type.Optional(Type.Number({ minimum: 0.01, description: 'Processor time per wall time' })),
          pids: Type.Optional(Type.Integer({ minimum: 1 })),
          tmp: Type.Optional(Type.String({ pattern: SIZE, description: 'Size of /tmp, for example 64MiB' })),
        },
        { additionalProperties: false },
      ),
    ),
    stop: Type.Optional(
      Type.Object(
        {
          signal: Type.Optional(Type.String({ pattern: '^SIG[A-Z0-9]+$' })),
          grace: Type.Optional(
            Type.String({ pattern: '^[0-9]+(ms|s|m)$', description: 'Time until SIGKILL, for example 10s' }),
          ),
        },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false },
);
export type NixStartRequest = Static<typeof NixStartRequest>;

/** What the node gives a workload that asks for nothing. */
export interface WorkloadDefaults {
  network: 'host' | 'none';
  /** In bytes; undefined = no limit. */
  memory: number | undefined;
  cpus: number | undefined;
  pids: number | undefined;
  /** Size of `/tmp` in bytes. */
  tmp: number;
  stopSignal: string;
  /** Time between the stop signal and SIGKILL, in milliseconds. */
  stopGraceMs: number;
}

export const DEFAULTS: WorkloadDefaults = {
  network: 'host',
  memory: 256 * 2 ** 20,
  cpus: undefined,
  pids: 256,
  tmp: 64 * 2 ** 20,
  stopSignal: 'SIGTERM',
  stopGraceMs: 10_000,
};

/** A start request with defaults filled in and units resolved: bytes and milliseconds. */
export interface WorkloadPlan {
  readonly storePath: StorePath;
  /** Relative to the store path; undefined = to be chosen from `bin/`. */
  readonly program: string | undefined;
  readonly argv: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** More of the environment, sealed for the nexlet; goes before `environment`. */
  readonly sealed: EncryptedEnvironment | undefined;
  readonly network: 'host' | 'none';
  readonly resources: { memory?: number; cpus?: number; pids?: number; tmp?: number };
  /** What the request itself asks for, defaults left out. */
  readonly reservation: { memory?: number; cpus?: number };
  readonly stop: { signal: string; graceMs: number };
}

/** Checks a start request and fills in the defaults; throws NIX_NEXLET_REQUEST_INVALID naming the field. */
export function planWorkload(request: unknown, defaults: WorkloadDefaults = DEFAULTS): WorkloadPlan {
  const [first] = Errors(NixStartRequest, request);
  if (first !== undefined) throw invalid(first.instancePath.slice(1).replaceAll('/', '.') || 'request', first.message);
  const checked = request as NixStartRequest;
  const { storePath, subPath } = splitStorePath(checked.store_path);
  if (subPath !== '' && checked.program !== undefined) {
    throw invalid('program', `must be absent when store_path already names the file "${subPath}"`);
  }
  const program = checked.program ?? (subPath === '' ? undefined : subPath);
  if (program !== undefined) checkRelative(program);
  checkVariables(checked.environment ?? {}, 'environment');
  if (checked.argv?.some((argument) => argument.includes('\0'))) throw invalid('argv', 'holds a NUL character');
  const { memory, cpus, pids, tmp } = checked.resources ?? {};
  return {
    storePath,
    program,
    argv: checked.argv ?? [],
    environment: checked.environment ?? {},
    sealed: checked.encrypted_environment,
    network: checked.network ?? defaults.network,
    resources: withoutUndefined({
      memory: memory === undefined ? defaults.memory : parseSize(memory),
      cpus: cpus ?? defaults.cpus,
      pids: pids ?? defaults.pids,
      tmp: tmp === undefined ? defaults.tmp : parseSize(tmp),
    }),
    reservation: withoutUndefined({ memory: memory === undefined ? undefined : parseSize(memory), cpus }),
    stop: {
      signal: checkSignal(checked.stop?.signal ?? defaults.stopSignal),
      graceMs: checked.stop?.grace === undefined ? defaults.stopGraceMs : parseGrace(checked.stop.grace),
    },
  };
}

/** Who waits for a stop waits so long, in milliseconds. */
const MAX_GRACE = 3_600_000;

const UNITS: Record<string, number> = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };

/** `256MiB` → bytes. */
export function parseSize(text: string): number {
  const [, number, unit] = /^([0-9.]+)(B|KiB|MiB|GiB)$/.exec(text) ?? [];
  const factor = UNITS[unit ?? ''];
  if (number === undefined || factor === undefined) {
    throw invalid('size', `"${text}" is no size; write for example 256MiB`);
  }
  const bytes = Math.round(Number(number) * factor);
  if (!Number.isSafeInteger(bytes) || bytes < 1) throw invalid('size', `"${text}" is out of all bounds`);
  return bytes;
}

function parseGrace(text: string): number {
  const amount = Number.parseInt(text, 10);
  const unit = text.endsWith('ms') ? 1 : text.endsWith('m') ? 60_000 : 1_000;
  if (amount * unit > MAX_GRACE) throw invalid('stop.grace', `"${text}" is more than an hour`);
  return amount * unit;
}

function checkSignal(name: string): string {
  if (name in constants.signals) return name;
  throw invalid('stop.signal', `"${name}" is no signal of this machine`);
}

function checkRelative(program: string): void {
  const unsafe =
    program.startsWith('/') ||
    program.includes('\0') ||
    program.split('/').some((part) => part === '..' || part === '.' || part === '');
  if (unsafe) throw invalid('program', `"${program}" must be a plain path below the store path`);
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
