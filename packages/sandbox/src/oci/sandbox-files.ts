import { randomUUID } from 'node:crypto';
import { chmodSync, chownSync, mkdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { rename, rm, writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import type { ociConfig } from '../bundle/oci-config.ts';
import { hasErrno } from '../file-errors.ts';
import { identityIn, readLine, readOrEmpty, SandboxFolder } from '../sandbox-folder.ts';
import { identifyFirst, type ProcessIdentity } from '../supervisor/process-identity.ts';
import type { Exit, SandboxRecord } from '../sandbox.ts';

type OciConfig = ReturnType<typeof ociConfig>;

/** What is left of a configuration while the sandbox runs. */
export type KeptConfig = OciConfig;

/** The folder of one sandbox: what is where, and how to read what the supervisor left there. */
export class SandboxFiles extends SandboxFolder {
  readonly #id: string;
  #program: ProcessIdentity | undefined;
  #supervisor: ProcessIdentity | undefined;

  constructor(stateDir: string, id: string) {
    super(stateDir, id, 'oci');
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

  /** Where the OCI runtime keeps its own state. */
  get runtimeState(): string {
    return join(this.folder, 'runtime');
  }

  /** Writes down the limit of processes that holds once the program runs. */
  keepPidsLimit(pids: number): void {
    writeFileSync(join(this.folder, 'pids'), `${pids}\n`, { mode: 0o600 });
  }

  async pidsLimit(): Promise<number | undefined> {
    const line = await readLine(join(this.folder, 'pids'));
    return line === undefined ? undefined : Number(line);
  }

  /** What the supervisor's own commands complain about. */
  get supervisorLog(): string {
    return join(this.folder, 'supervisor.log');
  }

  /** Whether its program has printed anything on standard output; may be forgotten once that is much. */
  get hasOutput(): boolean {
    return (statSync(join(this.folder, 'stdout.0'), { throwIfNoEntry: false })?.size ?? 0) > 0;
  }

  /** The runtime sets the root up as the sandbox's own root user, who must be let through. */
  async make(record: SandboxRecord): Promise<void> {
    this.makeFolder(record, 0o711);
    mkdirSync(this.bundle);
    chmodSync(this.bundle, 0o711);
  }

  /** Makes the private folder. `owner`: the program's user, as this machine numbers it. */
  async makePrivate(files: Readonly<Record<string, string>>, owner: number): Promise<void> {
    mkdirSync(this.privateFolder, { mode: 0o500 });
    chownSync(this.privateFolder, owner, owner);
    for (const [name, content] of Object.entries(files)) await this.replacePrivate(name, content);
  }

  /** The owner of the folder becomes that of the file. False when there is no such folder. */
  async replacePrivate(name: string, content: string): Promise<boolean> {
    const owner = statSync(this.privateFolder, { throwIfNoEntry: false })?.uid;
    if (owner === undefined) return false;
    // Beside the folder, not in it: the program sees whole files only.
    const draft = join(this.folder, `private-draft-${randomUUID()}`);
    try {
      writeFileSync(draft, content, { mode: 0o400, flag: 'wx' });
      chownSync(draft, owner, owner);
      renameSync(draft, join(this.privateFolder, name));
    } catch (error) {
      rmSync(draft, { force: true });
      throw error;
    }
    return true;
  }

  /** Present once the supervisor runs. */
  async supervisor(): Promise<ProcessIdentity | undefined> {
    this.#supervisor ??= await identityIn(join(this.folder, 'supervisor'));
    return this.#supervisor;
  }

  /**
   * The sandbox's first process; present once it runs the program, or is about to. `started` was left by supervisors of
   * earlier versions.
   */
  async program(): Promise<ProcessIdentity | undefined> {
    this.#program ??= (await identityIn(join(this.folder, 'started'))) ?? (await this.#identifyProgram());
    return this.#program;
  }

  async #identifyProgram(): Promise<ProcessIdentity | undefined> {
    const pid = Number(await readOrEmpty(join(this.folder, 'pid')));
    const supervisor = await this.supervisor();
    return pid > 0 && supervisor !== undefined ? identifyFirst(pid, { id: this.#id, supervisor }) : undefined;
  }

  /** Whether the runtime has set the sandbox up, and began to execute its program. */
  async begun(): Promise<boolean> {
    return (await readOrEmpty(join(this.folder, 'pid'))) !== '';
  }

  /** Present once everything of the sandbox has ended and its logs are complete. */
  async exit(): Promise<Exit | undefined> {
    const line = await readLine(join(this.folder, 'exit'));
    return line === undefined ? undefined : parseExit(line);
  }

  /** Empty when there is none, or it ended before it had a log. */
  async supervisorComplaint(): Promise<string> {
    return (await readOrEmpty(this.supervisorLog)).trim();
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
    const [complaint] = parseComplaints(await readOrEmpty(join(this.folder, 'stderr.0'), 4096));
    return complaint?.startsWith('exec container process') ? complaint : undefined;
  }

  /**
   * Removes what holds the environment, secrets included, in clear: the bundle's configuration, and from crun's copy of
   * it the environment and whatever no command in the sandbox needs to be run.
   */
  async removeSecrets(id: string): Promise<void> {
    await rm(this.config, { force: true });
    const copy = this.#configCopy(id);
    const text = await readOrEmpty(copy);
    if (text === '') return;
    const kept = `${copy}.kept`;
    try {
      await writeFile(kept, JSON.stringify(withoutSecrets(text)), { mode: 0o600 });
      await rename(kept, copy);
    } catch (error) {
      // crun removes the folder when the sandbox has ended.
      if (!hasErrno(error, 'ENOENT')) throw error;
    }
  }

  /** The configuration without its secrets; undefined when the sandbox does not run. */
  async keptConfig(id: string): Promise<KeptConfig | undefined> {
    const text = await readOrEmpty(this.#configCopy(id));
    return text === '' ? undefined : withoutSecrets(text);
  }

  #configCopy(id: string): string {
    return join(this.runtimeState, id, 'config.json');
  }
}

function withoutSecrets(text: string): KeptConfig {
  const config = JSON.parse(text) as OciConfig;
  return { ...config, process: { ...config.process, env: [] } };
}

/** `<status> <processes killed for want of memory>`, the status as a shell has it. */
export function parseExit(line: string): Exit | undefined {
  const [, status, killed] = /^(\d+) (\d+)$/.exec(line) ?? [];
  if (status === undefined) return undefined;
  const code = Number(status);
  const signal = Object.entries(constants.signals).find(([, number]) => number === code - 128)?.[0];
  return { code, ...(signal === undefined ? {} : { signal }), outOfMemory: code !== 0 && Number(killed) > 0 };
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
