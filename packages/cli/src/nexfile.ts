import { readFile } from 'node:fs/promises';
import { CliError } from './cli-error.ts';
import type { Lifecycle } from '@nex-nix/protocol';

const LIFECYCLES: readonly Lifecycle[] = ['service', 'job', 'function'];

/** The keys of a Nexfile, and what they mean. */
export const NEXFILE_KEYS = {
  name: 'Name of the workload',
  type: 'Which nexlet runs it; without it nix',
  lifecycle: 'service, job or function; without it service, or function where the start request has triggers',
  start_request: 'What that nexlet is to run',
  description: 'What it is, for people',
  tags: 'Map of tags that the node must have',
  environment: 'Map of variables; sealed to the nexlet that gets it',
  metadata: 'Object: whatever is to be listed with it',
} as const;

/** A Nexfile, by Go nex's keys; `environment` and `metadata` are this project's. What is absent is for the command line to say. */
export interface Nexfile {
  readonly name?: string;
  readonly description?: string;
  /** Tags that the node must have. */
  readonly tags?: Record<string, string>;
  readonly type?: string;
  readonly lifecycle?: Lifecycle;
  readonly startRequest?: unknown;
  /** Sealed to the nexlet that gets the workload. */
  readonly environment?: Record<string, string>;
  readonly metadata?: Record<string, unknown>;
}

/** The file that `nex workload start` reads when nothing else says what to start. */
const DEFAULT_NEXFILE = 'Nexfile';

/** Reads the default Nexfile of the working folder; undefined when there is none. Errors as {@link readNexfile}. */
export async function findNexfile(): Promise<Nexfile | undefined> {
  try {
    return await parseNexfile(await readFile(DEFAULT_NEXFILE, 'utf8'), DEFAULT_NEXFILE);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Reads a Nexfile, JSON or YAML. Errors: `CliError` CLI_USAGE naming file and key. */
export async function readNexfile(path: string): Promise<Nexfile> {
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw unusable(path, cause.code === 'ENOENT' ? 'there is no such file' : cause.message, cause);
  });
  return parseNexfile(text, path);
}

async function parseNexfile(text: string, path: string): Promise<Nexfile> {
  const value = await parseJsonOrYaml(text, path);
  if (!isObject(value)) throw unusable(path, 'it is neither a JSON nor a YAML object');
  const { name, description, tags, type, lifecycle, start_request: startRequest, environment, metadata } = value;
  for (const [key, entry] of Object.entries({ name, description, type, lifecycle })) {
    if (entry !== undefined && typeof entry !== 'string') throw unusable(path, `the key "${key}" must be text`);
  }
  if (lifecycle !== undefined && !LIFECYCLES.includes(lifecycle as Lifecycle)) {
    throw unusable(path, `the key "lifecycle" must be one of ${LIFECYCLES.join(', ')}`);
  }
  if (metadata !== undefined && !isObject(metadata)) throw unusable(path, 'the key "metadata" must be an object');
  return withoutUndefined({
    name: name as string | undefined,
    description: description as string | undefined,
    tags: texts(tags, path, 'tags'),
    type: type as string | undefined,
    lifecycle: lifecycle as Lifecycle | undefined,
    startRequest,
    environment: texts(environment, path, 'environment'),
    metadata,
  });
}

/** As Go nex does, JSON is tried first; of a broken JSON file its own complaint is the one that helps. */
async function parseJsonOrYaml(text: string, path: string): Promise<unknown> {
  try {
    return JSON.parse(text);
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    if (text.trimStart().startsWith('{')) throw unusable(path, `it is not JSON: ${cause.message}`, cause);
  }
  const { parse, YAMLParseError } = await import('yaml');
  try {
    return parse(text);
  } catch (cause) {
    if (!(cause instanceof YAMLParseError)) throw cause;
    throw unusable(path, `it is neither JSON nor YAML: ${cause.message.split('\n')[0]}`, cause);
  }
}

/** YAML makes numbers and booleans of what is meant as text. */
function texts(value: unknown, path: string, key: string): Record<string, string> | undefined {
  if (value === undefined || value === null) return undefined;
  const isText = (entry: unknown) => ['string', 'number', 'boolean'].includes(typeof entry);
  if (isObject(value) && Object.values(value).every(isText)) {
    return Object.fromEntries(Object.entries(value).map(([name, entry]) => [name, String(entry)]));
  }
  throw unusable(path, `the key "${key}" must be an object of texts`);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function withoutUndefined(file: { [K in keyof Nexfile]: Nexfile[K] | undefined }): Nexfile {
  return Object.fromEntries(Object.entries(file).filter(([, value]) => value !== undefined)) as Nexfile;
}

function unusable(path: string, why: string, cause?: unknown): CliError {
  return new CliError('CLI_USAGE', `Cannot use the Nexfile "${path}": ${why}`, {
    cause,
    hint: `It is an object with some of the keys ${Object.keys(NEXFILE_KEYS).join(', ')}`,
  });
}
