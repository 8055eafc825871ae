import { chmod, mkdir, open, readFile, rm, writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import { hasErrno } from './file-errors.ts';
import { parseIdentity, type ProcessIdentity } from './process-identity.ts';
import { isSandboxId } from './validate-spec.ts';
import type { Exit, SandboxRecord } from './sandbox.ts';

/** The folder of one sandbox: what is where, and how to read what the supervisor left there. */
export class SandboxFiles {
  readonly folder: string;

  constructor(stateDir: string, id: string) {
    this.folder = join(stateDir, id);
  }

  /** OCI bundle: `config.json` and `rootfs`. */
  get bundle(): string {
    return join(this.folder, 'bundle');
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
  async makeFolders(): Promise<void> {
    for (const folder of [this.folder, this.bundle]) {
      await mkdir(folder);
      await chmod(folder, 0o711);
    }
  }

  async writeRecord(record: SandboxRecord): Promise<void> {
    await writeFile(join(this.folder, 'sandbox.json'), `${JSON.stringify(record)}\n`, { mode: 0o600 });
  }

  /** Undefined when there is no sandbox, or its making was cut short. */
  async readRecord(): Promise<SandboxRecord | undefined> {
    const text = await readLine(join(this.folder, 'sandbox.json'));
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
    const lines = (await readOrEmpty(join(this.folder, 'runtime.log'))).trimEnd().split('\n');
    return parseComplaint(lines.at(-1) ?? '');
  }

  /**
   * crun finds out that a program cannot be executed when it has already given up its own log, and writes the message
   * to the program's stderr. Nothing else can have written there before it.
   */
  async executionComplaint(): Promise<string | undefined> {
    const [line = ''] = (await readOrEmpty(this.stream('stderr'), 4096)).split('\n', 1);
    const complaint = parseComplaint(line);
    return complaint?.startsWith('exec container process') ? complaint : undefined;
  }

  /** Removes what holds the environment, secrets included, in clear: the bundle's configuration and crun's copy of it. */
  async removeSecrets(id: string): Promise<void> {
    await rm(this.config, { force: true });
    await rm(join(this.folder, 'runtime', id, 'config.json'), { force: true });
  }

  async remove(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 });
  }
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

/** Message of a line that crun wrote with `--log-format=json`. */
function parseComplaint(line: string): string | undefined {
  if (!line.startsWith('{"msg":')) return undefined;
  try {
    const { msg } = JSON.parse(line) as { msg?: unknown };
    return typeof msg === 'string' ? msg : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
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
