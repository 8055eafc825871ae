import { mkdir } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { SandboxError } from '../../sandbox-error.ts';
import type { Vm, VmExit, VmRecord, VmShape, VmTemplate } from '../vmm.ts';
import { attachDisk } from './attach-disk.ts';
import type { ConsoleTail } from './console-tail.ts';
import { RUN_FOLDER } from './launch.ts';
import { saveState } from './migration.ts';
import { QEMU_FILES } from './qemu-arguments.ts';
import type { QemuEvents } from './qemu-events.ts';
import type { ProcessEnd, QemuProcess } from './qemu-process.ts';
import type { QmpClient } from './qmp-client.ts';
import type { QmpEvent } from './qmp-message.ts';
import { copyMemory, STATE, type TemplateFacts, writeFacts } from './template-files.ts';
import { connectUnix } from '../unix-connection.ts';

/** How long QEMU's process may be there when its monitor has gone: then it hangs. */
const END_GRACE_MS = 2000;

/** The id of the agent's port among QEMU's devices. */
const AGENT_PORT = 'agent';

/** Parts of a VM, put together by whoever started it or found it. */
export interface QemuVmParts {
  record: VmRecord;
  process: QemuProcess;
  client: QmpClient;
  events: QemuEvents;
  console: ConsoleTail;
  /** What a template would be made of; undefined when the VM was found. */
  template?: { shape: VmShape; facts: TemplateFacts };
  /** Whether the guest is at its very beginning. */
  fresh: boolean;
}

/**
 * A VM under QEMU. QEMU is told to stay when the guest ends: the monitor says why, whoever asks and when, and the guest's
 * last words are in the ring still. Then it is killed.
 */
export class QemuVm implements Vm {
  readonly record: VmRecord;
  /** Never settles once the object was disposed. */
  readonly exited: Promise<VmExit>;
  /** Resolves when the guest has opened its end of the agent's port for the first time, if that is yet to come. */
  readonly opened: Promise<void>;
  readonly #parts: QemuVmParts;
  readonly #exit = Promise.withResolvers<VmExit>();
  readonly #opened = Promise.withResolvers<void>();
  readonly #listening: Disposable;
  #channel: Socket | undefined;
  #fresh: boolean;
  /** Why the guest has ended, once that is known. */
  #reason: VmExit['reason'] | undefined;
  #released = false;

  constructor(parts: QemuVmParts) {
    this.#parts = parts;
    this.#fresh = parts.fresh;
    this.record = parts.record;
    this.exited = this.#exit.promise;
    this.opened = this.#opened.promise;
    this.#listening = parts.events.listen((event) => this.#on(event));
    void this.#watch();
  }

  get pid(): number {
    return this.#parts.process.pid;
  }

  async connect({ signal }: { signal?: AbortSignal } = {}): Promise<Duplex> {
    this.#channel?.destroy();
    try {
      const channel = await connectUnix(this.#run, QEMU_FILES.agent, signal);
      this.#channel = channel;
      return channel;
    } catch (error) {
      signal?.throwIfAborted();
      throw this.#failed('connect to its agent', error);
    }
  }

  async attach(slot: number, file: string, { writable }: { writable: boolean }): Promise<void> {
    if (slot < 0 || slot >= this.record.slots) throw this.#failed(`attach "${file}"`, `it has no slot ${slot}`);
    const { client, process } = this.#parts;
    await attachDisk({ client, process, run: this.#run }, { slot, file, writable });
  }

  async toTemplate(folder: string): Promise<VmTemplate> {
    const { client, events, process, template } = this.#parts;
    if (template === undefined) throw this.#failed('make a template of it', 'it was started by an earlier process');
    const run = this.#run;
    this.#channel?.destroy();
    await mkdir(folder, { recursive: true, mode: 0o755 });
    await client.execute('stop');
    await saveState({ client, events, run }, { file: join(folder, STATE), user: process.user ?? 0 });
    // In QEMU's mount namespace, so only as long as it is there.
    const memory = join('/proc', String(process.pid), 'root', run, QEMU_FILES.memory, QEMU_FILES.ram);
    await copyMemory(memory, join(folder, QEMU_FILES.ram));
    await this.kill();
    await writeFacts(folder, template.facts);
    return { folder, shape: template.shape };
  }

  async kill(): Promise<void> {
    await this.#parts.process.kill();
    if (!this.#released) await this.exited;
  }

  async consoleTail(): Promise<string> {
    const { client, console } = this.#parts;
    // A QEMU that has gone or hangs has no more to say.
    await console.take(client).catch(ignoreVmm);
    return console.toString();
  }

  async memory(): Promise<number> {
    return this.#parts.process.memory;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#released = true;
    this.#listening[Symbol.dispose]();
    this.#channel?.destroy();
    this.#parts.client[Symbol.dispose]();
    this.#parts.process.release();
  }

  /** The guest has ended: QEMU has said so, or it says so of a VM that was found. */
  ended(reason: VmExit['reason']): void {
    this.#reason ??= reason;
    void this.#finish();
  }

  get #run(): string {
    return join(this.record.folder, RUN_FOLDER);
  }

  #on(event: QmpEvent): void {
    if (event.name === 'VSERPORT_CHANGE' && event.port === AGENT_PORT && event.open) {
      this.#fresh = false;
      this.#opened.resolve();
    }
    if (event.name === 'GUEST_PANICKED') this.ended('panic');
    if (event.name !== 'SHUTDOWN') return;
    const reason = endOf(event.reason);
    if (reason === 'reset' && this.#fresh) void this.#bootAgain();
    else if (reason !== undefined) this.ended(reason);
  }

  /** A guest that resets before the kernel's first word has done nothing yet: some starts of QEMU 10 go like that. */
  async #bootAgain(): Promise<void> {
    this.#fresh = false;
    const { client, console } = this.#parts;
    try {
      await console.take(client);
      if (!console.isEmpty) return this.ended('reset');
      await client.execute('set-action', { reboot: 'reset' });
      await client.execute('system_reset');
      await client.execute('set-action', { reboot: 'shutdown' });
      await client.execute('cont');
    } catch (error) {
      ignoreVmm(error);
      this.ended('reset');
    }
  }

  async #finish(): Promise<void> {
    if (this.#released) return;
    await this.consoleTail();
    await this.#parts.process.kill();
  }

  /** The monitor goes with the process, at once. */
  async #watch(): Promise<void> {
    const { client, process } = this.#parts;
    const closed = await client.closed;
    if (this.#released) return;
    const ended = process.ended();
    const isStuck = await Promise.race([ended.then(() => false), delay(END_GRACE_MS, true, { ref: false })]);
    if (isStuck) {
      this.#reason ??= 'failed';
      await process.kill();
    }
    this.#listening[Symbol.dispose]();
    this.#channel?.destroy();
    const end = await ended;
    // Of a guest that has ended, it is this process that ends QEMU.
    const how = this.#reason === undefined ? end.how : isStuck ? closed.message : '';
    const detail = [process.said, how].filter((part) => part !== '').join('; ');
    this.#exit.resolve({ reason: this.#reason ?? reasonOf(end), detail });
  }

  #failed(doing: string, why: unknown): SandboxError {
    const cause = why instanceof Error ? { cause: why } : {};
    const said = why instanceof Error ? why.message : String(why);
    return new SandboxError('SANDBOX_VMM_FAILED', `Cannot ${doing}, of the guest "${this.record.id}": ${said}`, cause);
  }
}

/** Why a guest has ended, by the reason of a SHUTDOWN; undefined when it was QEMU that was ended. */
function endOf(reason: string): VmExit['reason'] | undefined {
  if (reason === 'guest-shutdown') return 'shutdown';
  if (reason === 'guest-reset') return 'reset';
  if (reason === 'guest-panic') return 'panic';
  return reason.startsWith('host-') && reason !== 'host-error' ? undefined : 'failed';
}

function reasonOf({ killed }: ProcessEnd): VmExit['reason'] {
  return killed ? 'killed' : 'failed';
}

function ignoreVmm(error: unknown): void {
  if (!(error instanceof SandboxError)) throw error;
}
