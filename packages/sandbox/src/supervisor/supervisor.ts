import { type ChildProcess, spawn } from 'node:child_process';
import { chownSync, readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { SandboxCgroup } from '../cgroup/cgroup.ts';
import { hasErrno } from '../file-errors.ts';
import type { SandboxFiles } from '../oci/sandbox-files.ts';
import { Pulse } from '../pulse.ts';
import { identify, signalGroup } from './process-identity.ts';
import { SUPERVISOR } from './supervisor-script.ts';

const KILL_GRACE_MS = 2000;

/** How much of what a supervisor complains about while it sets itself up is kept, and how long that is waited for once it has ended. */
const COMPLAINT = { length: 1024, ms: 200 };

/** File descriptors by which the supervisor holds the writing ends of the sandbox' output. */
const OUTPUTS = [6, 7];

/** What supervisors of one runtime have in common. */
export interface SupervisorSurroundings {
  /** Parents of cgroups, see {@link SandboxCgroup.parents}. */
  parents: readonly string[];
  /** See {@link entryFile}. */
  entry: string;
  /** Cgroup mount that the OCI runtime must not see. */
  hide: string | undefined;
  /** Whether the sandbox's root has to be a mount of its own already. */
  mountRoot: boolean;
}

/** What a supervisor has to run. */
export interface Supervised {
  id: string;
  files: SandboxFiles;
  cgroup: SandboxCgroup;
  /** Absolute path of the OCI runtime. */
  runtime: string;
  /** The program's user, as this machine numbers it: may open standard output and error again, by name. */
  owner: number;
  /** Bytes of each stream that are kept on disk. */
  logBytes: number;
  /** Bytes a second of each stream. */
  logRate: number | undefined;
}

/**
 * A supervisor in a session of its own, at first without a sandbox: then it goes with this process, and leaves nothing.
 * Once it runs a sandbox it stays. Only PATH of this process' environment goes to it.
 */
export class Supervisor {
  /** Fires when it has ended. */
  readonly ended = new Pulse();
  readonly #child: ChildProcess;
  readonly #surroundings: SupervisorSurroundings;
  /** Where it has mounts of its own: those of this process when it began. */
  readonly #mounts: string | undefined;
  readonly #ready: Promise<boolean>;
  readonly #exit = Promise.withResolvers<void>();
  /** Resolved when nothing of it can say anything any more. */
  readonly #silent = Promise.withResolvers<void>();
  #complaint = '';

  constructor(surroundings: SupervisorSurroundings) {
    const { parents, entry, hide = '', mountRoot } = surroundings;
    this.#surroundings = surroundings;
    const ownMounts = hide !== '' || mountRoot;
    this.#mounts = ownMounts ? currentMounts() : undefined;
    const script = ['/bin/sh', '-c', SUPERVISOR, 'sh', hide, entry, ...parents];
    const [command = '', ...args] = ownMounts ? ['unshare', '--mount', ...script] : script;
    this.#child = spawn(command, args, {
      cwd: '/',
      detached: true,
      env: { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin' },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const { stdin, stdout, stderr } = this.#child;
    // Its end is told by "exit"; what it did not take of a command it never runs.
    stdin?.on('error', () => undefined);
    const ready = Promise.withResolvers<boolean>();
    this.#ready = ready.promise;
    stdout?.once('data', () => {
      ready.resolve(true);
      // From now on it waits for this process, and this process not for it.
      this.#child.unref();
      for (const stream of [stdin, stdout, stderr]) (stream as Socket | null)?.unref();
    });
    stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#complaint = (this.#complaint + text).slice(0, COMPLAINT.length);
    });
    this.#child.once('close', () => this.#silent.resolve());
    const end = () => {
      ready.resolve(false);
      this.#exit.resolve();
      this.ended.fire();
    };
    this.#child.once('error', ({ message }) => {
      this.#complaint = message;
      end();
    });
    this.#child.once('exit', end);
  }

  get hasEnded(): boolean {
    return this.#child.pid === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Whether what this process sees of the machine's file systems, it sees too. */
  get isCurrent(): boolean {
    // This process learns of an end a moment later.
    const isThere = identify(this.#child.pid ?? 0) !== undefined;
    return isThere && !this.hasEnded && (this.#mounts === undefined || this.#mounts === currentMounts());
  }

  /** Whether it has set itself up; false when it has ended instead. */
  get ready(): Promise<boolean> {
    return this.#ready;
  }

  /** How it ended, for people. */
  get outcome(): string {
    const { exitCode, signalCode } = this.#child;
    return signalCode ?? (exitCode === null ? 'still there' : `exit code ${exitCode}`);
  }

  /** How it ended before it was ready, and what it said of that; for people. */
  async lastWords(): Promise<string> {
    await Promise.race([this.#silent.promise, delay(COMPLAINT.ms)]);
    return [this.outcome, ...this.#complaint.trim().split('\n').filter(Boolean)].join('; ');
  }

  /** Lets it run a sandbox, once it is ready. What comes of it is seen in the sandbox's folder. */
  run({ id, files, cgroup, runtime, owner, logBytes, logRate = 0 }: Supervised): void {
    const { pid } = this.#child;
    try {
      for (const output of OUTPUTS) chownSync(`/proc/${pid}/fd/${output}`, owner, owner);
    } catch (error) {
      // It has ended, which is told by "exit".
      if (!hasErrno(error, 'ENOENT', 'ESRCH')) throw error;
    }
    const root = this.#surroundings.mountRoot ? files.rootfs : '';
    const events = cgroup.memoryEvents ?? '';
    const lines = [files.folder, id, runtime, root, events, logBytes, Math.ceil(logRate)];
    this.#child.stdin?.end(`${lines.join('\n')}\n`);
    this.#child.stdout?.destroy();
    this.#child.stderr?.destroy();
  }

  /** Lets it go, without a sandbox; resolves when it has gone. */
  async dismiss(): Promise<void> {
    this.#child.stdin?.destroy();
    this.#child.stdout?.destroy();
    this.#child.stderr?.destroy();
    this.#child.ref();
    if (!this.hasEnded) await this.#exit.promise;
  }

  /** Kills it with its whole process group, and waits for the end of those. */
  async kill(): Promise<void> {
    const { pid } = this.#child;
    if (pid === undefined || this.hasEnded) return;
    signalGroup(pid, 'SIGKILL');
    this.#child.ref();
    await this.#exit.promise;
    // What it had started ends a moment later. Where nobody reaps zombies, the group never goes.
    const deadline = Date.now() + KILL_GRACE_MS;
    while (signalGroup(pid, 0) && Date.now() < deadline) await delay(1);
  }
}

function currentMounts(): string {
  try {
    return readFileSync('/proc/self/mountinfo', 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return '';
    throw error;
  }
}
