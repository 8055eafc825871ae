import { randomUUID } from 'node:crypto';
import { chmod, chown, mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import { hasErrno } from '../file-errors.ts';
import { parseIdentity, type ProcessIdentity } from '../supervisor/process-identity.ts';
import { isSandboxId } from '../validate-spec.ts';
import type { Exit, SandboxRecord } from '../sandbox.ts';

const RECORD = 'sandbox.json';

/** Prefixes of folders that are being made or removed. No sandbox id starts with a dot. */
const MAKING = '.making-';
const REMOVING = '.removing-';

/** Removes the folders that a killed process had begun to make or to remove. */
export async function removeHalfFolders(stateDir: string): Promise<void> {
  for (const name of await readdir(stateDir)) {
    if (name.startsWith(MAKING) || name.startsWith(REMOVING)) await removeTree(join(stateDir, name));
  }
}

/**
 * The folder of one sandbox: what is where, and how to read what the supervisor left there. It appears together with
 * its record, and disappears at once.
 */
export class SandboxFiles {
  readonly folder: string;
  readonly #stateDir: string;
  readonly #id: string;

  constructor(stateDir: string, id: string) {
    this.folder = join(stateDir, id);
    this.#stateDir = stateDir;
    this.#id = id;
  }

  /** OCI bundle: `config.json` and `rootfs`. */
  get bundle(): string {
    return join(this.folder, 'bundle');
  }

  /** Files that only the program may read, replaced one by one. */
  get privateFolder(): string {
    return join(this.folder, 'private');
  }

  get rootfs(): string {
    return join(this.bundle, 'rootfs');
  }

  get config(): string {
    return join(this.bundle, 'config.json');
  }

  /** What the supervisor's own commands complain about. */
  get supervisorLog(): string {
    return join(this.folder, 'supervisor.log');
  }

  stream(name: 'stdout' | 'stderr'): string {
    return join(this.folder, name);
  }

  /** The runtime sets the root up as the sandbox's own root user, who must be let through. */
  async make(record: SandboxRecord): Promise<void> {
    const making = join(this.#stateDir, `${MAKING}${this.#id}`);
    await removeTree(making);
    await mkdir(making);
    await chmod(making, 0o711);
    await writeFile(join(making, RECORD), `${JSON.stringify(record)}\n`, { mode: 0o600 });
    await rename(making, this.folder);
    await mkdir(this.bundle);
    await chmod(this.bundle, 0o711);
  }

  /** Makes the private folder. `owner`: the program's user, as this machine numbers it. */
  async makePrivate(files: Readonly<Record<string, string>>, owner: number): Promise<void> {
    await mkdir(this.privateFolder, { mode: 0o500 });
    await chown(this.privateFolder, owner, owner);
    for (const [name, content] of Object.entries(files)) await this.replacePrivate(name, content);
  }

  /** The owner of the folder becomes that of the file. False when there is no such folder. */
  async replacePrivate(name: string, content: string): Promise<boolean> {
    let owner: number;
    try {
      owner = (await stat(this.privateFolder)).uid;
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return false;
      throw error;
    }
    // Beside the folder, not in it: the program sees whole files only.
    const draft = join(this.folder, `private-draft-${randomUUID()}`);
    try {
      await writeFile(draft, content, { mode: 0o400, flag: 'wx' });
      await chown(draft, owner, owner);
      await rename(draft, join(this.privateFolder, name));
    } finally {
      await rm(draft, { force: true });
    }
    return true;
  }

  /** Undefined when there is no sandbox. */
  async readRecord(): Promise<SandboxRecord | undefined> {
    const text = await readLine(join(this.folder, RECORD));
    return text === undefined ? undefined : parseRecord(text);
  }

  /** Present once the supervisor runs. */
  async supervisor(): Promise<ProcessIdentity | undefined> {
    return identityIn(join(this.folder, 'supervisor'));
  }

  /** The sandbox's first process; present once it runs the program, or is about to. */
  async program(): Promise<ProcessIdentity | undefined> {
    return identityIn(join(this.folder, 'started'));
  }

  /** Present once everything of the sandbox has ended and its logs are complete. */
  async exit(): Promise<Exit | undefined> {
    const line = await readLine(join(this.folder, 'exit'));
    return line === undefined ? undefined : parseExit(line);
  }

  /** What the OCI runtime itself complained about last. */
  async runtimeComplaint(): Promise<string | undefined> {
    return parseComplaints(await readOrEmpty(join(this.folder, 'runtime.log'))).at(-1);
  }

  /**
   * crun finds out that a program cannot be executed when it has already given up its own log, and writes the message
   * to the program's stderr. Nothing else can have written there before it.
   */
  async executionComplaint(): Promise<string | undefined> {
    const [complaint] = parseComplaints(await readOrEmpty(this.stream('stderr'), 4096));
    return complaint?.startsWith('exec container process') ? complaint : undefined;
  }

  /** Removes what holds the environment, secrets included, in clear: the bundle's configuration and crun's copy of it. */
  async removeSecrets(id: string): Promise<void> {
    await rm(this.config, { force: true });
    await rm(join(this.folder, 'runtime', id, 'config.json'), { force: true });
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

async function removeTree(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 });
}

/** `<status> <processes killed for want of memory>`, the status as a shell has it. */
export function parseExit(line: string): Exit | undefined {
  const [, status, killed] = /^(\d+) (\d+)$/.exec(line) ?? [];
  if (status === undefined) return undefined;
  const code = Number(status);
  const signal = Object.entries(constants.signals).find(([, number]) => number === code - 128)?.[0];
  return { code, ...(signal === undefined ? {} : { signal }), outOfMemory: code !== 0 && Number(killed) > 0 };
}

/** A record as somebody else kept it, or undefined when it is none of version 1 of an `oci` sandbox. */
export function parseRecord(text: string): SandboxRecord | undefined {
  let value: Partial<Record<keyof SandboxRecord, unknown>> | null;
  try {
    value = JSON.parse(text) as typeof value;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  const { version, runtime, id, instance, created } = value ?? {};
  if (version !== 1 || runtime !== 'oci' || typeof id !== 'string' || !isSandboxId(id)) return undefined;
  if (typeof instance !== 'string' || typeof created !== 'string') return undefined;
  return { version, runtime, id, instance, created };
}

/** Messages that crun wrote with `--log-format=json`: an object a line, or in later versions over several lines. */
export function parseComplaints(text: string): string[] {
  return text.split(/^(?=\{)/m).flatMap((object) => {
    if (!/^\{\s*"msg":/.test(object)) return [];
    try {
      const { msg } = JSON.parse(object) as { msg?: unknown };
      return typeof msg === 'string' ? [msg] : [];
    } catch (error) {
      if (error instanceof SyntaxError) return [];
      throw error;
    }
  });
}

async function identityIn(file: string): Promise<ProcessIdentity | undefined> {
  const line = await readLine(file);
  return line === undefined ? undefined : parseIdentity(line);
}

/** The one line of a state file. Each is written at once, so a line without its newline is not there yet. */
async function readLine(file: string): Promise<string | undefined> {
  const text = await readOrEmpty(file);
  return text.endsWith('\n') ? text.slice(0, -1) : undefined;
}

async function readOrEmpty(file: string, limit?: number): Promise<string> {
  try {
    if (limit === undefined) return await readFile(file, 'utf8');
    await using handle = await open(file);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(limit), 0, limit, 0);
    return buffer.toString('utf8', 0, bytesRead);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return '';
    throw error;
  }
}
