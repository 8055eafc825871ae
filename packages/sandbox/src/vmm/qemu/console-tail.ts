import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno } from '../../file-errors.ts';
import { consoleText } from '../console-text.ts';
import type { QmpClient } from './qmp-client.ts';
import { CONSOLE_BYTES, QEMU_NAMES } from './qemu-arguments.ts';

/** In a VM's folder: what was taken out of QEMU's ring so far, as far as it is kept. */
const FILE = 'console';

/** The end of what a guest has printed on its console: in QEMU's ring, and what was taken out of it before, on disk. */
export class ConsoleTail {
  readonly #file: string;
  #kept: Buffer;

  private constructor(file: string, kept: Buffer) {
    this.#file = file;
    this.#kept = kept;
  }

  /** With what an earlier process has taken. */
  static async open(folder: string): Promise<ConsoleTail> {
    const file = join(folder, FILE);
    try {
      return new ConsoleTail(file, await readFile(file));
    } catch (error) {
      if (!hasErrno(error, 'ENOENT')) throw error;
      return new ConsoleTail(file, Buffer.alloc(0));
    }
  }

  get isEmpty(): boolean {
    return this.#kept.length === 0;
  }

  /** Takes over what is in the ring. */
  async take(client: QmpClient): Promise<void> {
    const base64 = await client.execute('ringbuf-read', {
      device: QEMU_NAMES.console,
      size: CONSOLE_BYTES,
      format: 'base64',
    });
    const bytes = Buffer.from(base64, 'base64');
    if (bytes.length === 0) return;
    this.#kept = Buffer.concat([this.#kept, bytes]).subarray(-CONSOLE_BYTES);
    await writeFile(this.#file, this.#kept, { mode: 0o600 });
  }

  /** Its last lines, harmless to print. */
  toString(): string {
    return consoleText(this.#kept.toString());
  }
}
