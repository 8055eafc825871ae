import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno } from './file-errors.ts';
import type { RuntimeName, SandboxRecord } from './sandbox.ts';
import { parseIdentity, type ProcessIdentity } from './supervisor/process-identity.ts';
import { isSandboxId } from './validate-spec.ts';

const RECORD = 'sandbox.json';

/** Prefixes of folders that are being made or removed. No sandbox id starts with a dot. */
const MAKING = '.making-';
const REMOVING = '.removing-';

/** The folders that a killed process had begun to make or to remove. */
export async function halfFolders(stateDir: string): Promise<string[]> {
  const names = await namesIn(stateDir);
  return names
    .filter((name) => name.startsWith(MAKING) || name.startsWith(REMOVING))
    .map((name) => join(stateDir, name));
}

/** Removes the folders that a killed process had begun to make or to remove. */
export async function removeHalfFolders(stateDir: string): Promise<void> {
  for (const folder of await halfFolders(stateDir)) await removeTree(folder);
}

/** What is in a folder; nothing when it is not there. */
export async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

/** The folder of one sandbox, of whatever runtime. It appears together with its record, and disappears at once. */
export class SandboxFolder {
  readonly folder: string;
  readonly #stateDir: string;
  readonly #id: string;
  readonly #runtime: RuntimeName;

  constructor(stateDir: string, id: string, runtime: RuntimeName) {
    this.folder = join(stateDir, id);
    this.#stateDir = stateDir;
    this.#id = id;
    this.#runtime = runtime;
  }

  /** Whether there is anything of it. */
  get exists(): boolean {
    return existsSync(this.folder);
  }

  /** @param mode Of the folder. */
  protected makeFolder(record: SandboxRecord, mode: number): void {
    const making = join(this.#stateDir, `${MAKING}${this.#id}`);
    rmSync(making, { recursive: true, force: true });
    mkdirSync(making);
    chmodSync(making, mode);
    writeFileSync(join(making, RECORD), `${JSON.stringify(record)}\n`, { mode: 0o600 });
    renameSync(making, this.folder);
  }

  /** Undefined when there is no sandbox. */
  async readRecord(): Promise<SandboxRecord | undefined> {
    const text = await readLine(join(this.folder, RECORD));
    return text === undefined ? undefined : parseRecord(text, this.#runtime);
  }

  /** Who a warm sandbox belongs to; of others absent. */
  async owner(): Promise<ProcessIdentity | undefined> {
    return identityIn(join(this.folder, 'owner'));
  }

  /** Writes down that the sandbox belongs to this process and ends with it. */
  async own(): Promise<void> {
    await writeOwner(this.folder);
  }

  async remove(): Promise<void> {
    const removing = join(this.#stateDir, `${REMOVING}${this.#id}`);
    await removeTree(removing);
    try {
      await rename(this.folder, removing);
    } catch (error) {
      if (!hasErrno(error, 'ENOENT')) throw error;
      return;
    }
    await removeTree(removing);
  }
}

/** Writes down in a folder, as the file `owner`, that it belongs to this process. */
export async function writeOwner(folder: string): Promise<void> {
  const [boot, stats] = await Promise.all([
    readFile('/proc/sys/kernel/random/boot_id', 'utf8'),
    readFile('/proc/self/stat', 'utf8'),
  ]);
  await writeFile(join(folder, 'owner'), `${boot.trim()} ${stats}`, { mode: 0o600 });
}

/** A record as somebody else kept it, or undefined when it is none of version 1 of a sandbox of this runtime. */
export function parseRecord(text: string, wanted: RuntimeName): SandboxRecord | undefined {
  let value: Partial<Record<keyof SandboxRecord, unknown>> | null;
  try {
    value = JSON.parse(text) as typeof value;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  const { version, runtime, id, instance, created } = value ?? {};
  if (version !== 1 || runtime !== wanted || typeof id !== 'string' || !isSandboxId(id)) return undefined;
  if (typeof instance !== 'string' || typeof created !== 'string') return undefined;
  return { version, runtime: wanted, id, instance, created };
}

/** The process that a state file tells of. */
export async function identityIn(file: string): Promise<ProcessIdentity | undefined> {
  const line = await readLine(file);
  return line === undefined ? undefined : parseIdentity(line);
}

/** The one line of a state file. Each is written at once, so a line without its newline is not there yet. */
export async function readLine(file: string): Promise<string | undefined> {
  const text = await readOrEmpty(file);
  return text.endsWith('\n') ? text.slice(0, -1) : undefined;
}

/** Text of a state file, or its beginning; '' when it is not there. */
export async function readOrEmpty(file: string, limit?: number): Promise<string> {
  try {
    // Small and just written: a round trip through the thread pool would cost ten times as much.
    if (limit === undefined) return readFileSync(file, 'utf8');
    await using handle = await open(file);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(limit), 0, limit, 0);
    return buffer.toString('utf8', 0, bytesRead);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return '';
    throw error;
  }
}

export async function removeTree(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 });
}
