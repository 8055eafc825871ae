import type { Duplex } from 'node:stream';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { VSOCK_PORT } from '@nex-nix/guest';
import { SandboxError } from '../../sandbox-error.ts';
import { connectUnix } from '../unix-connection.ts';
import { consoleText } from '../console-text.ts';
import type { Vm, VmExit, VmRecord, VmShape, VmTemplate } from '../vmm.ts';
import type { VmmProcess } from '../vmm-process.ts';
import { BoundedFile } from './bounded-file.ts';
import type { FirecrackerApi } from './firecracker-api.ts';
import { exitFrom } from './firecracker-exit.ts';
import { CONSOLE_FILE, type FirecrackerFiles, NAMES, slotName } from './firecracker-files.ts';
import { keepTemplate } from './firecracker-template.ts';
import { connectVsock } from './vsock-channel.ts';

export interface FirecrackerVmParts {
  record: VmRecord;
  process: VmmProcess;
  files: FirecrackerFiles;
  api: FirecrackerApi;
  /** Of Firecracker, as in `1.16.1`. */
  version: string;
  /** What the VM was made of; unknown of one that was reattached, which becomes no template. */
  made?: { shape: VmShape; tap?: string | undefined };
}

/** A VM of one Firecracker process. */
export class FirecrackerVm implements Vm {
  readonly record: VmRecord;
  readonly exited: Promise<VmExit>;
  readonly #parts: FirecrackerVmParts;
  readonly #console: BoundedFile;
  readonly #log: BoundedFile;
  /** A connection to the API that nothing is sent over: it ends with the process. */
  readonly #watch: Socket;
  #channel: Socket | undefined;
  #released = false;

  private constructor(parts: FirecrackerVmParts, watch: Socket) {
    this.#parts = parts;
    this.record = parts.record;
    this.#watch = watch;
    this.#console = new BoundedFile(join(parts.record.folder, CONSOLE_FILE));
    this.#log = new BoundedFile(parts.files.path(NAMES.log));
    this.exited = this.#untilExit();
  }

  /** @throws Error when the process does not listen */
  static async open(parts: FirecrackerVmParts): Promise<FirecrackerVm> {
    const watch = await connectUnix(parts.files.root, NAMES.api);
    watch.on('error', () => watch.destroy()).resume();
    watch.unref();
    return new FirecrackerVm(parts, watch);
  }

  get pid(): number {
    return this.#parts.process.pid;
  }

  async connect({ signal }: { signal?: AbortSignal } = {}): Promise<Duplex> {
    this.#channel?.destroy();
    const connecting = new AbortController();
    const either = signal === undefined ? connecting.signal : AbortSignal.any([signal, connecting.signal]);
    const channel = connectVsock(this.#parts.files.root, NAMES.agent, { port: VSOCK_PORT, signal: either });
    const gone = this.exited.then(({ detail }) => {
      throw this.#error('connect to the guest', `its Firecracker has ended: ${detail}`);
    });
    try {
      this.#channel = await Promise.race([channel, gone]);
      return this.#channel;
    } finally {
      // The one that has lost the race.
      gone.catch(() => undefined);
      connecting.abort();
      channel.catch(() => undefined);
    }
  }

  async attach(slot: number, file: string, { writable }: { writable: boolean }): Promise<void> {
    const { slots } = this.record;
    if (!Number.isInteger(slot) || slot < 0 || slot >= slots) {
      throw this.#error(`attach "${file}"`, `there is no slot ${slot}, only ${slots} in all`);
    }
    if (writable !== slot > 0) {
      throw this.#error(`attach "${file}"`, slot === 0 ? 'slot 0 can only be read' : `slot ${slot} is for writing`);
    }
    const name = slotName(slot);
    await this.#parts.files.showLater(file, name);
    await this.#parts.api.patchDrive(name, { path_on_host: name });
  }

  async toTemplate(folder: string): Promise<VmTemplate> {
    const { made, files, api, version } = this.#parts;
    if (made === undefined) throw this.#error('make a template', 'it was started by an earlier process');
    await files.empty(NAMES.state);
    await files.empty(NAMES.memory);
    await api.patchVm('Paused');
    await api.createSnapshot({ snapshot_path: NAMES.state, mem_file_path: NAMES.memory, snapshot_type: 'Full' });
    await this.kill();
    return keepTemplate(folder, { from: files.root, version, ...made });
  }

  async kill(): Promise<void> {
    await this.#parts.process.kill();
    if (!this.#released) await this.exited;
  }

  async consoleTail(): Promise<string> {
    return consoleText(await this.#console.tail());
  }

  async memory(): Promise<number> {
    return this.#parts.process.memory;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#released = true;
    this.#channel?.destroy();
    this.#close();
  }

  /** Never, once this object is disposed. */
  async #untilExit(): Promise<VmExit> {
    // Not `once()`, for which a reset is an error: it is an end like any other.
    await new Promise<void>((resolve) => void this.#watch.once('close', () => resolve()));
    if (this.#released) return new Promise<never>(() => undefined);
    await this.#parts.process.ended();
    this.#close();
    try {
      return exitFrom(await this.#parts.files.lastWords());
    } catch (error) {
      // Whoever waits for the end is told of it, come what may.
      return { reason: 'failed', detail: `its last words cannot be read: ${(error as Error).message}` };
    }
  }

  #close(): void {
    this.#watch.destroy();
    this.#parts.api[Symbol.dispose]();
    this.#console[Symbol.dispose]();
    this.#log[Symbol.dispose]();
    this.#parts.process.unref();
  }

  #error(what: string, why: string): SandboxError {
    return new SandboxError('SANDBOX_VMM_FAILED', `Cannot ${what} of the virtual machine "${this.record.id}": ${why}`);
  }
}
