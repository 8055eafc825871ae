import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { GuestError } from '../guest-error.ts';
import { elfSection } from './elf.ts';
import { unxz } from './kernel.ts';

/** One loadable module. */
export interface KernelModule {
  /** With underscores, as the kernel has it. */
  name: string;
  /** Uncompressed. */
  content: Buffer;
}

const FILE = /^(?<name>.+)\.ko(?:\.(?:gz|xz|zst))?$/;

/**
 * The modules of one kernel, by name. Dependencies are read from the modules themselves: `modules.dep` is missing where
 * depmod has not run, in an unpacked package for instance.
 */
export class KernelModules {
  readonly #files: ReadonlyMap<string, string>;
  readonly #builtIn: ReadonlySet<string>;
  readonly #folder: string;
  readonly #read = new Map<string, Promise<KernelModule & { needs: string[] }>>();

  private constructor(folder: string, files: ReadonlyMap<string, string>, builtIn: ReadonlySet<string>) {
    this.#folder = folder;
    this.#files = files;
    this.#builtIn = builtIn;
  }

  /**
   * @param folder `/lib/modules/<release>` or its like
   * @throws GuestError GUEST_BUILD_FAILED when it has no modules
   */
  static async open(folder: string): Promise<KernelModules> {
    const list = await readdir(folder, { recursive: true, withFileTypes: true }).catch((error: unknown) => {
      throw noModules(folder, error);
    });
    const files = new Map<string, string>();
    for (const entry of list) {
      const name = FILE.exec(entry.name)?.groups?.['name'];
      if (entry.isFile() && name !== undefined) files.set(plain(name), join(entry.parentPath, entry.name));
    }
    const builtIn = await readFile(join(folder, 'modules.builtin'), 'utf8').catch((error: unknown) => {
      throw noModules(folder, error);
    });
    const names = builtIn.split('\n').map((line) => plain(basename(line.trim(), '.ko')));
    return new KernelModules(folder, files, new Set(names));
  }

  /**
   * The modules of these names with all that they need, each after what it needs; what is built into the kernel is left
   * out. Names marked with `?` may be unknown to this kernel.
   *
   * @throws GuestError GUEST_BUILD_FAILED when the kernel has one of them neither as a module nor built in
   */
  async inOrder(
    names: readonly string[],
    { signal }: { signal?: AbortSignal | undefined } = {},
  ): Promise<KernelModule[]> {
    const ordered = new Map<string, KernelModule>();
    const under = new Set<string>();
    const add = async (wanted: string): Promise<void> => {
      const name = plain(wanted.replace(/\?$/, ''));
      if (ordered.has(name) || this.#builtIn.has(name) || under.has(name)) return;
      const file = this.#files.get(name);
      if (file === undefined && wanted.endsWith('?')) return;
      if (file === undefined) {
        throw new GuestError(
          'GUEST_BUILD_FAILED',
          `Cannot build a guest: the kernel in "${this.#folder}" has no module "${name}"`,
          {
            hint: 'Use a kernel with virtio and erofs: --kernel-package with the linux-image-cloud package of Debian',
          },
        );
      }
      under.add(name);
      const { needs, ...module } = await this.#module(name, file, signal);
      for (const need of needs) await add(need);
      ordered.set(name, module);
    };
    for (const name of names) await add(name);
    return [...ordered.values()];
  }

  #module(name: string, file: string, signal: AbortSignal | undefined): Promise<KernelModule & { needs: string[] }> {
    const known = this.#read.get(file);
    if (known !== undefined) return known;
    const reading = readModule(name, file, signal);
    this.#read.set(file, reading);
    return reading;
  }
}

async function readModule(
  name: string,
  file: string,
  signal: AbortSignal | undefined,
): Promise<KernelModule & { needs: string[] }> {
  const packed = await readFile(file, { signal });
  const content = file.endsWith('.gz')
    ? gunzipSync(packed)
    : file.endsWith('.zst')
      ? zstdDecompressSync(packed)
      : file.endsWith('.xz')
        ? await unxz(packed, { origin: file, signal })
        : packed;
  const section = elfSection(content, '.modinfo');
  if (section === undefined) {
    throw new GuestError('GUEST_BUILD_FAILED', `Cannot read the kernel module "${file}": it has no .modinfo`);
  }
  return { name, content, needs: needsIn(section.toString('latin1')) };
}

/** Of the lines `key=value` of a module: those it cannot be loaded without, and those that it works better after. */
function needsIn(information: string): string[] {
  const needs: string[] = [];
  for (const line of information.split('\0')) {
    const { key, value = '' } = /^(?<key>[a-z]+)=(?<value>.*)$/s.exec(line)?.groups ?? {};
    if (key === 'depends') needs.push(...value.split(',').filter((name) => name !== ''));
    if (key === 'softdep') {
      const before = /pre:(?<names>[^:]*?)(?:\spost:|$)/.exec(value)?.groups?.['names'] ?? '';
      needs.push(
        ...before
          .split(/\s+/)
          .filter((name) => name !== '')
          .map((name) => `${name}?`),
      );
    }
  }
  return needs;
}

function plain(name: string): string {
  return name.replaceAll('-', '_');
}

function noModules(folder: string, cause: unknown): GuestError {
  return new GuestError('GUEST_BUILD_FAILED', `Cannot build a guest: "${folder}" has no modules of a kernel`, {
    hint: 'Name the folder of the kernel’s modules with --modules, as /lib/modules/6.1.0-56-cloud-amd64',
    cause,
  });
}
