import { mkdir, open, readdir, readFile, rename, stat, unlink } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { ContextError } from './context-error.ts';
import { formatContext, natsContext, type NatsContext, parseContext } from './nats-context.ts';

export interface ContextFolderOptions {
  /** The folder above `nats/context`. Default: `$XDG_CONFIG_HOME`, else `~/.config`. */
  configDir?: string | undefined;
}

/** Reads the context `name`. An unknown one is `CONTEXT_NOT_FOUND`, its hint lists the names there are. */
export async function loadContext(name: string, options: ContextFolderOptions = {}): Promise<NatsContext> {
  checkName(name);
  const folder = contextFolder(options);
  const text = await readIfPresent(join(folder, `${name}.json`));
  if (text !== undefined) return parseContext(name, text);
  const names = await listContexts(options);
  throw new ContextError(
    'CONTEXT_NOT_FOUND',
    `Cannot find the context "${name}": there is none of that name in ${folder}`,
    {
      hint: names.length === 0 ? `nats context save ${name}` : `Use one of these contexts: ${names.join(', ')}`,
    },
  );
}

/** Names of the contexts in the folder, sorted. Empty files and folders are passed over, as by natscli. */
export async function listContexts(options: ContextFolderOptions = {}): Promise<string[]> {
  const folder = contextFolder(options);
  const entries = await readdir(folder, { withFileTypes: true }).catch(absent);
  const names: string[] = [];
  for (const entry of entries ?? []) {
    if (!entry.name.endsWith('.json') || entry.isDirectory()) continue;
    const info = await stat(join(folder, entry.name)).catch(absent);
    if (info !== undefined && info.isFile() && info.size > 0) names.push(entry.name.slice(0, -'.json'.length));
  }
  return names.sort();
}

/** Name of the context that `nats context select` has chosen, or undefined. It need not exist. */
export async function selectedContext(options: ContextFolderOptions = {}): Promise<string | undefined> {
  const text = await readIfPresent(join(contextFolder(options), '..', 'context.txt'));
  const name = text?.trim() ?? '';
  return name === '' ? undefined : name;
}

/** Writes the context `name`, replacing it in one step: the file is 0600, its folder 0700. Returns the file's path. */
export async function saveContext(
  name: string,
  fields: Partial<NatsContext>,
  options: ContextFolderOptions = {},
): Promise<string> {
  checkName(name);
  const text = formatContext(natsContext({ ...fields, name }));
  const folder = contextFolder(options);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const file = join(folder, `${name}.json`);
  const temporary = `${file}.tmp-${process.pid}-${Date.now()}`;
  try {
    await using handle = await open(temporary, 'wx', 0o600);
    await handle.writeFile(text);
    await handle.sync();
    await rename(temporary, file);
  } catch (error) {
    await unlink(temporary).catch(absent);
    throw error;
  }
  return file;
}

function contextFolder({ configDir }: ContextFolderOptions): string {
  const root = configDir ?? (process.env['XDG_CONFIG_HOME'] || join(homedir(), '.config'));
  return join(root, 'nats', 'context');
}

function checkName(name: string): void {
  if (name !== '' && !name.includes('..') && !/[/\\]/.test(name)) return;
  throw new ContextError(
    'CONTEXT_NAME_INVALID',
    `Cannot use "${name}" as the name of a context: it is not a file name`,
    {
      hint: 'Use a name without "/", "\\" and ".."',
    },
  );
}

async function readIfPresent(file: string): Promise<string | undefined> {
  return readFile(file, 'utf8').catch(absent);
}

function absent(error: unknown): undefined {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
  throw error;
}
