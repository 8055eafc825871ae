import { randomUUID } from 'node:crypto';
import { constants, readFileSync } from 'node:fs';
import { lstat, open, readdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { StorePath } from '../formats/store-path.ts';
import { childPath } from '../nar/walk-tree.ts';
import type { StoreDatabase, UnsyncedPath } from './store-database.ts';

/** Milliseconds without an import before the disk is made busy. */
const QUIET = 500;
/** Milliseconds after which imports that never end are no reason to wait any longer. */
const PATIENCE = 30_000;

/** Paths whose marks are taken away together. */
const BATCH = 16;

/** Which run of this machine it is: what an earlier one had in memory may never have reached the disk. */
const BOOT = bootId();

/** A new mark for content that was written in this run of the machine and may not be on the disk yet. No other content has the same. */
export function freshMark(): string {
  return `${BOOT} ${randomUUID()}`;
}

/** Whether content with this mark was written in this run of the machine: then all of it can be read, from memory if not from the disk. */
export function isOfThisBoot(mark: string): boolean {
  return mark.startsWith(`${BOOT} `);
}

export interface DiskWriterOptions {
  readonly db: StoreDatabase;
  readonly realPath: (path: StorePath) => string;
  /** Whether something is being imported: that goes first. */
  readonly isImporting: () => boolean;
}

/**
 * Brings the content of valid paths to the disk in the background, one path after the other while nothing is imported, and takes their
 * marks away. An import waits for no disk that way; what a power failure catches before, the next open verifies.
 */
export class DiskWriter implements AsyncDisposable {
  readonly #options: DiskWriterOptions;
  readonly #closing = new AbortController();
  #running: Promise<void> | undefined;

  constructor(options: DiskWriterOptions) {
    this.#options = options;
  }

  /** To be called when there may be something to do. */
  wake(): void {
    if (!this.#closing.signal.aborted) this.#running ??= this.#run();
  }

  /** Ends after the file at hand. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { db, isImporting } = this.#options;
    const { signal } = this.#closing;
    try {
      const patienceEnd = performance.now() + PATIENCE;
      await delay(QUIET, undefined, { ref: false, signal });
      for (;;) {
        while (isImporting() && performance.now() < patienceEnd) await delay(QUIET, undefined, { ref: false, signal });
        const batch = db.nextUnsynced(`${BOOT} `, BATCH);
        if (batch.length === 0) return;
        const replacements: (string | null)[] = [];
        for (const next of batch) replacements.push(await this.#write(next));
        // These wait for the disk as well: a mark that comes back costs reading everything.
        db.transaction(() => batch.forEach((next, n) => db.replaceMark(next, replacements[n] ?? null)), {
          durable: true,
        });
      }
    } catch {
      // Closed, or the database is busy or full: the marks stay, and the next import or the next open begins again.
    } finally {
      this.#running = undefined;
    }
  }

  /** The mark that the path has from now on. */
  async #write({ path }: UnsyncedPath): Promise<string | null> {
    const { signal } = this.#closing;
    try {
      await syncTree(this.#options.realPath(path), signal);
      return null;
    } catch {
      signal.throwIfAborted();
      // The disk may have lost it, and nobody can say what: the next open reads it all.
      return `unknown ${randomUUID()}`;
    }
  }
}

/** Waits until a file, or a folder with everything in it, is on the disk under its name. */
async function syncTree(root: string, signal: AbortSignal): Promise<void> {
  const stats = await lstat(root);
  if (stats.isFile()) await syncFile(Buffer.from(root), signal);
  const folders: Buffer[] = stats.isDirectory() ? [Buffer.from(root)] : [];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for (const entry of await readdir(folder, { encoding: 'buffer', withFileTypes: true })) {
      const path = childPath(folder, entry.name);
      if (entry.isDirectory()) folders.push(path);
      else if (entry.isFile()) await syncFile(path, signal);
    }
    await syncFile(folder, signal);
  }
  await syncFile(Buffer.from(dirname(root)), signal);
}

async function syncFile(path: Buffer, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  await file.sync();
}

/** Where the kernel does not say, one for this process alone: what it leaves unsynced is verified by the next one. */
function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return randomUUID();
  }
}
