import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { CliError } from './cli-error.ts';
import { checkEarlyKeys, EARLY_MARKS, earlyValue, idleEarlyKeys, originOf } from './early-config.ts';

/** A value out of a configuration file, and where it stands there. */
export interface Configured {
  readonly value: unknown;
  /** For messages: `the key "node_name" of "/etc/nex/config.json"`. */
  readonly origin: string;
}

interface ConfigFile {
  readonly file: string;
  readonly values: Readonly<Record<string, unknown>>;
}

/** A file in the working folder may belong to anything: one of these keys shows that it is for nex. */
const OWN_KEYS = ['nats', 'logger', 'namespace', 'nexus', 'node_name', 'agents', 'state_dir', ...EARLY_MARKS];

/** What the configuration files say. Format and places are those of Go nex 0.4; the keys of nodes of 0.1.5 are understood too. */
export class Config {
  /** The strongest first. */
  readonly #files: readonly ConfigFile[];

  constructor(files: readonly ConfigFile[]) {
    this.#files = files;
  }

  /** The files that were read, the strongest first. */
  get files(): string[] {
    return this.#files.map(({ file }) => file);
  }

  /**
   * The value of an option without its dashes: `node-name` is the key `node_name`; `nats.creds-file` is `"nats.creds_file"`
   * or, nested, `{"nats":{"creds_file":…}}`. Undefined when no file has it; `null` counts as absent.
   */
  get(name: string): Configured | undefined {
    for (const { file, values } of this.#files) {
      const key = name.replaceAll('-', '_');
      const value = own(values, key) ?? own(values, name) ?? nested(values, key.split('.'));
      if (value !== undefined) return { value, origin: originOf(key, file) };
      const early = earlyValue(values, name);
      if (early !== undefined) return { value: early.value, origin: originOf(early.key, file) };
    }
    return undefined;
  }

  /**
   * Looks at the keys of nodes that have no option of the same name.
   *
   * @throws {CliError} CLI_CONFIG_INVALID
   */
  checkEarlyKeys(): void {
    for (const { file, values } of this.#files) checkEarlyKeys(values, file);
  }

  /** Keys of nodes of earlier versions that change nothing, with their files. */
  get idleKeys(): { file: string; keys: string[] }[] {
    return this.#files
      .map(({ file, values }) => ({ file, keys: idleEarlyKeys(values) }))
      .filter(({ keys }) => keys.length > 0);
  }
}

/**
 * Reads /etc/nex/config.json, the user's nex/config.json, ./config.json and the file that is named; later ones are stronger.
 *
 * @throws {CliError} CLI_CONFIG_INVALID
 */
export async function readConfig(named?: string, env: NodeJS.ProcessEnv = process.env): Promise<Config> {
  const home = env['XDG_CONFIG_HOME'] || join(env['HOME'] || homedir(), '.config');
  const files = [
    await readConfigFile('/etc/nex/config.json'),
    await readConfigFile(join(home, 'nex/config.json')),
    await readConfigFile('config.json', { mayBeForeign: true }),
    named === undefined ? undefined : await readConfigFile(named, { mustExist: true }),
  ];
  return new Config(files.filter((file) => file !== undefined).reverse());
}

async function readConfigFile(
  file: string,
  { mayBeForeign = false, mustExist = false } = {},
): Promise<ConfigFile | undefined> {
  const text = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    const isAbsent = cause.code === 'ENOENT' || cause.code === 'ENOTDIR';
    // What nobody asked for and this user may not see is no reason to fail.
    if (!mustExist && (isAbsent || cause.code === 'EACCES' || (mayBeForeign && cause.code === 'EISDIR')))
      return undefined;
    throw unusable(file, isAbsent ? 'there is no such file' : cause.message, cause);
  });
  if (text === undefined) return undefined;
  if (mayBeForeign && !OWN_KEYS.some((key) => text.includes(`"${key}`))) return undefined;
  const values = parse(file, text);
  const isOwn = Object.keys(values).some((key) => OWN_KEYS.includes(key.split('.')[0] ?? ''));
  return mayBeForeign && !isOwn ? undefined : { file, values };
}

function parse(file: string, text: string): Record<string, unknown> {
  let values: unknown;
  try {
    values = JSON.parse(text);
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw unusable(file, `it is not JSON: ${cause.message}`, cause);
  }
  if (typeof values === 'object' && values !== null && !Array.isArray(values)) return values as Record<string, unknown>;
  throw unusable(file, 'it is not a JSON object');
}

function nested(values: unknown, [first = '', ...rest]: readonly string[]): unknown {
  if (typeof values !== 'object' || values === null || Array.isArray(values)) return undefined;
  const value = own(values as Record<string, unknown>, first);
  return rest.length === 0 ? value : nested(value, rest);
}

function own(values: Readonly<Record<string, unknown>>, key: string): unknown {
  return Object.hasOwn(values, key) ? (values[key] ?? undefined) : undefined;
}

function unusable(file: string, why: string, cause?: unknown): CliError {
  return new CliError('CLI_CONFIG_INVALID', `Cannot use the configuration file "${file}": ${why}`, {
    cause,
    hint: 'It looks like this: {"namespace":"system","nats":{"servers":["nats://127.0.0.1:4222"]}}',
  });
}
