import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { hasErrno } from '../../file-errors.ts';
import { readProc } from '../../supervisor/process-identity.ts';

/** What was found out about a machine, by a name for each fact. */
const FILE = 'qemu-machine.json';

/** Facts that take a while to find out, and hold until the machine starts again. Kept in a file. */
export class MachineFacts {
  readonly #folder: string;
  readonly #finding = new Map<string, Promise<unknown>>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** What is known; undefined when it has not been found out since the machine was started. `T` is what is written there. */
  async known<T>(name: string): Promise<T | undefined> {
    const { bootId, facts } = await this.#read();
    return bootId === currentBoot() ? (facts[name] as T | undefined) : undefined;
  }

  /** Finds something out, unless it is known. Whoever asks meanwhile waits for the same answer. */
  async get<T>(name: string, find: () => Promise<T>): Promise<T> {
    const finding = this.#finding.get(name) ?? this.#find(name, find).finally(() => this.#finding.delete(name));
    this.#finding.set(name, finding);
    return finding as Promise<T>;
  }

  async #find<T>(name: string, find: () => Promise<T>): Promise<T> {
    const known = await this.known<T>(name);
    if (known !== undefined) return known;
    const fact = await find();
    const { bootId, facts } = await this.#read();
    const others = bootId === currentBoot() ? facts : {};
    await this.#write({ bootId: currentBoot(), facts: { ...others, [name]: fact } });
    return fact;
  }

  async #read(): Promise<Written> {
    try {
      const written = JSON.parse(await readFile(join(this.#folder, FILE), 'utf8')) as Partial<Written>;
      return { bootId: written.bootId ?? '', facts: written.facts ?? {} };
    } catch (error) {
      // One that a crash has cut short is as good as none.
      if (!hasErrno(error, 'ENOENT') && !(error instanceof SyntaxError)) throw error;
      return { bootId: '', facts: {} };
    }
  }

  async #write(written: Written): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    const file = join(this.#folder, FILE);
    const making = `${file}.${randomBytes(4).toString('hex')}`;
    await writeFile(making, JSON.stringify(written));
    await rename(making, file);
  }
}

interface Written {
  bootId: string;
  facts: Partial<Record<string, unknown>>;
}

function currentBoot(): string {
  return readProc('sys/kernel/random/boot_id')?.trim() ?? '';
}
