import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { basename } from 'node:path';
import { type ProcessIdentity, readProc, signalProcess, untilGone } from '../../supervisor/process-identity.ts';

/** How much of what QEMU says is kept. */
const MAX_SAID = 4096;

const ON_THE_WAY: ReadonlySet<string> = new Set(['nsenter', 'unshare', 'sh', 'setpriv']);

/** How QEMU's process ended. */
export interface ProcessEnd {
  /** Somebody has killed it, as far as that can be told. */
  killed: boolean;
  /** Part of a sentence. */
  how: string;
}

/**
 * QEMU's process, from the script that becomes it on: one that this process has started, or one that an earlier process has.
 */
export class QemuProcess {
  readonly identity: ProcessIdentity;
  readonly #child: ChildProcess | undefined;
  readonly #exit: Promise<ProcessEnd> | undefined;
  #said = '';

  /** `child`: when this process has started it, with its standard error in a pipe. */
  constructor(identity: ProcessIdentity, child?: ChildProcess) {
    this.identity = identity;
    this.#child = child;
    if (child === undefined) return;
    this.#exit = once(child, 'close').then(([code, signal]: (number | string | null)[]) => ({
      killed: signal !== null,
      how: signal === null ? `it has exited with ${code}` : `it was killed by ${signal}`,
    }));
    // Read as it comes: a guest may find ways to have QEMU complain without end.
    child.stderr?.on('data', (bytes: Buffer) => {
      this.#said = `${this.#said}${bytes.toString()}`.slice(-MAX_SAID);
    });
  }

  get pid(): number {
    return this.identity.pid;
  }

  /** The last that it said, if this process has started it. */
  get said(): string {
    return this.#said.trim();
  }

  /** Resolves when it is gone. Call it when that is about to be: of a process that is not ours nothing tells. */
  async ended(): Promise<ProcessEnd> {
    if (this.#exit !== undefined) {
      this.#child?.ref();
      (this.#child?.stderr as Socket | null | undefined)?.ref();
      return this.#exit;
    }
    await untilGone(this.identity);
    return { killed: true, how: 'it is gone' };
  }

  async kill(): Promise<void> {
    await signalProcess(this.identity, 'SIGKILL');
    await this.ended();
  }

  /** Whether it has become QEMU, rather than one of the programs on the way there. */
  get isQemu(): boolean {
    const program = readProc(`${this.pid}/cmdline`)?.split('\0')[0] ?? '';
    return program !== '' && !ON_THE_WAY.has(basename(program));
  }

  /** User that it runs as, as this machine numbers them. */
  get user(): number | undefined {
    const user = readProc(`${this.pid}/status`)?.match(/^Uid:\t(\d+)/m)?.[1];
    return user === undefined ? undefined : Number(user);
  }

  /** Bytes of its resident set; 0 when it is gone. */
  get memory(): number {
    const kib = readProc(`${this.pid}/status`)?.match(/^VmRSS:\s+(\d+) kB$/m)?.[1];
    return Number(kib ?? 0) * 1024;
  }

  /** Nothing of it keeps this process any more; it runs on. */
  release(): void {
    this.#child?.unref();
    this.#child?.stderr?.destroy();
  }

  /** It may run on when this process ends; what it says is read until then. */
  unref(): void {
    this.#child?.unref();
    (this.#child?.stderr as Socket | null | undefined)?.unref();
  }
}
