import { dirname } from 'node:path';
import { invalidValue, kindOf } from './config-error.ts';

type Values = Readonly<Record<string, unknown>>;

/** What a value must be, and how that is said. */
const KINDS = {
  text: { means: 'text', fits: (value: unknown) => typeof value === 'string' },
  number: { means: 'a whole number', fits: (value: unknown) => Number.isSafeInteger(value) && Number(value) >= 0 },
  boolean: { means: 'true or false', fits: (value: unknown) => typeof value === 'boolean' },
  object: { means: 'an object', fits: isObject },
  texts: {
    means: 'a list of texts',
    fits: (value: unknown) => Array.isArray(value) && value.every((item) => typeof item === 'string'),
  },
} as const;

interface EarlyKey {
  readonly kind: keyof typeof KINDS;
  /** The option that it stands for. Without one it has no effect, unless it is a group of others. */
  readonly option?: string;
  /** The value as that option has it. */
  readonly convert?: (value: never) => unknown;
  /** The option that it is used for without being converted by itself; empty for a group of others. */
  readonly used?: string;
}

/** The keys of a node's configuration file in Nex 0.1.5. */
const KEYS: Readonly<Record<string, EarlyKey>> = {
  bin_path: { kind: 'texts', used: 'bin-path' },
  cni: { kind: 'object', used: '' },
  'cni.bin_path': { kind: 'texts', option: 'cni-path' },
  'cni.interface_name': { kind: 'text' },
  'cni.network_name': { kind: 'text', option: 'cni-network' },
  default_resource_dir: { kind: 'text', used: 'guest-image' },
  kernel_filepath: { kind: 'text', used: 'guest-image' },
  rootfs_filepath: { kind: 'text', used: 'guest-image' },
  internal_node_host: { kind: 'text' },
  internal_node_port: { kind: 'number' },
  machine_pool_size: { kind: 'number', used: 'machine-pool-size' },
  machine_template: { kind: 'object', used: '' },
  'machine_template.memsize_mib': { kind: 'number', option: 'machine-memory', convert: (mib: number) => `${mib}MiB` },
  'machine_template.vcpu_count': { kind: 'number', option: 'machine-vcpus' },
  otel_metrics: { kind: 'boolean' },
  otel_metrics_exporter: { kind: 'text' },
  otel_metrics_port: { kind: 'number' },
  otlp_exporter_url: { kind: 'text' },
  preserve_network: { kind: 'boolean' },
  rate_limiters: { kind: 'object' },
  valid_issuers: { kind: 'texts' },
  workload_types: { kind: 'texts' },
};

/** All early keys, what their values must be, and for which option they stand. */
export function earlyKeys(): { key: string; means: string; option: string | undefined }[] {
  return Object.entries(KEYS)
    .filter(([key]) => !Object.keys(KEYS).some((other) => other.startsWith(`${key}.`)))
    .map(([key, { kind, option, used }]) => ({ key, means: KINDS[kind].means, option: option ?? used }))
    .map(({ option, ...key }) => ({ ...key, option: option === undefined ? undefined : `--${option}` }));
}

/** One of these shows that a file is for a node of this kind. */
export const EARLY_MARKS = ['default_resource_dir', 'machine_pool_size', 'machine_template', 'rootfs_filepath'];

/** What a file says of an option by an early key, and by which; undefined when it says nothing. */
export function earlyValue(values: Values, option: string): { key: string; value: unknown } | undefined {
  if (option === 'guest-image') return guestImage(values);
  for (const [key, { option: standsFor, convert }] of Object.entries(KEYS)) {
    const value = standsFor === option ? valueAt(values, key) : undefined;
    if (value !== undefined) return { key, value: convert === undefined ? value : convert(value as never) };
  }
  return undefined;
}

/**
 * Looks whether all early keys of a file hold what they must.
 *
 * @throws {CliError} CLI_CONFIG_INVALID, naming key and file
 */
export function checkEarlyKeys(values: Values, file: string): void {
  for (const [key, { kind }] of Object.entries(KEYS)) {
    const value = valueAt(values, key);
    if (value === undefined || KINDS[kind].fits(value)) continue;
    throw invalidValue(originOf(key, file), `it is ${kindOf(value)}, and must be ${KINDS[kind].means}`);
  }
  const parts = guestFiles(values);
  if (new Set(parts.map(({ folder }) => folder)).size < 2) return;
  const why = `the guest's kernel and root image must lie in one folder, with the manifest that "nex guest build" writes`;
  throw invalidValue(originOf(parts.map(({ key }) => key).join('", "'), file), why);
}

/** The early keys of a file that change nothing here. */
export function idleEarlyKeys(values: Values): string[] {
  const hasFolder = folderOf(values) !== undefined;
  return Object.entries(KEYS)
    .filter(([key, { option, used }]) => {
      if (valueAt(values, key) === undefined) return false;
      if (key === 'kernel_filepath' || key === 'rootfs_filepath') return hasFolder;
      return option === undefined && used === undefined;
    })
    .map(([key]) => key);
}

export function originOf(key: string, file: string): string {
  return `the key "${key}" of "${file}"`;
}

/** `default_resource_dir` is the folder of all parts of a guest; without it, the parts name it. */
function guestImage(values: Values): { key: string; value: unknown } | undefined {
  const folder = folderOf(values);
  if (folder !== undefined) return { key: 'default_resource_dir', value: folder };
  const [part] = guestFiles(values);
  return part && { key: part.key, value: part.folder };
}

function folderOf(values: Values): unknown {
  return valueAt(values, 'default_resource_dir') || undefined;
}

function guestFiles(values: Values): { key: string; folder: string }[] {
  if (folderOf(values) !== undefined) return [];
  return ['kernel_filepath', 'rootfs_filepath'].flatMap((key) => {
    const file = valueAt(values, key);
    return typeof file === 'string' && file !== '' ? [{ key, folder: dirname(file) }] : [];
  });
}

/** Undefined when it is absent or `null`, or what should be a group is none. */
function valueAt(values: Values, key: string): unknown {
  let value: unknown = values;
  for (const part of key.split('.')) {
    if (!isObject(value) || !Object.hasOwn(value, part)) return undefined;
    value = value[part];
  }
  return value ?? undefined;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
