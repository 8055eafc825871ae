import { createHash, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { removeTree } from '../sandbox-folder.ts';
import { identify } from '../supervisor/process-identity.ts';
import type { GuestImage, VmShape, VmTemplate } from '../vmm/vmm.ts';
import type { GuestMachines } from './guest-machines.ts';

/** Begins the names of those that are being taken; then comes the process that does. */
const MAKING = '.making-';

/** How long a guest may take to load what a snapshot is to hold. */
const SETTLE_TIMEOUT_MS = 30_000;

/**
 * Templates of machines on disk, one for each shape and image, taken when they are first asked for. One that a VMM refuses
 * is discarded, and taken anew.
 */
export class Templates {
  readonly #folder: string;
  readonly #vmm: string;
  readonly #machines: GuestMachines;
  readonly #taking = new Map<string, Promise<VmTemplate>>();

  /** Ends what is under way. */
  readonly #signal: AbortSignal;

  constructor(options: { folder: string; vmm: string; machines: GuestMachines; signal: AbortSignal }) {
    this.#folder = options.folder;
    this.#vmm = options.vmm;
    this.#machines = options.machines;
    this.#signal = options.signal;
  }

  /**
   * The template of a shape. Whoever asks while it is taken waits for it.
   *
   * @throws what a boot throws
   */
  async get(shape: VmShape): Promise<VmTemplate> {
    const name = this.#nameOf(shape);
    const folder = join(this.#folder, name);
    let taking = this.#taking.get(name);
    if (taking === undefined) {
      if (existsSync(folder)) return { folder, shape };
      taking = this.#take(shape, folder).finally(() => this.#taking.delete(name));
      this.#taking.set(name, taking);
    }
    return taking;
  }

  /** Removes one that was refused. */
  async discard(shape: VmShape): Promise<void> {
    const name = this.#nameOf(shape);
    if (!this.#taking.has(name)) await removeTree(join(this.#folder, name));
  }

  /** Removes templates that are not of this image, and what killed processes have begun. */
  async tidy(image: GuestImage): Promise<void> {
    const ours = `${imageKey(image)}-`;
    await mkdir(this.#folder, { recursive: true, mode: 0o711 });
    for (const name of await readdir(this.#folder)) {
      const maker = /^\.making-(\d+)-/.exec(name)?.[1];
      const wanted = maker === undefined ? name.startsWith(ours) : identify(Number(maker)) !== undefined;
      if (!wanted) await removeTree(join(this.#folder, name));
    }
  }

  /** It appears whole. Of two processes that take the same one, the first has it. */
  async #take(shape: VmShape, folder: string): Promise<VmTemplate> {
    const signal = this.#signal;
    const making = join(this.#folder, `${MAKING}${process.pid}-${randomBytes(6).toString('hex')}`);
    const machine = await this.#machines.make(shape, { what: 'the machine that others are restored from', signal });
    try {
      await machine.connection.request({ type: 'settle' }, { timeoutMs: SETTLE_TIMEOUT_MS, signal });
      await machine.connection[Symbol.asyncDispose]();
      await mkdir(making);
      // Machines of all users are restored from it.
      await chmod(making, 0o755);
      await machine.vm.toTemplate(making);
      if (!existsSync(folder)) await rename(making, folder);
      return { folder, shape };
    } finally {
      await machine.destroy();
      await removeTree(making);
    }
  }

  #nameOf({ image, vcpus, memory, slots, network }: VmShape): string {
    const net = network ? 'net' : 'no-net';
    return `${imageKey(image)}-${this.#vmm}-${vcpus}-${memory}-${slots}-${net}`;
  }
}

function imageKey({ manifest: { kernel, initrd, root, commandLine } }: GuestImage): string {
  const parts = [kernel.sha256, initrd.sha256, root.sha256, commandLine];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16);
}
