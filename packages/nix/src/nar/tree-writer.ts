import { NixError } from '../nix-error.ts';
import { DeferredJob } from '../threads/deferred-job.ts';
import { MAX_THREADS, ThreadPool } from '../threads/thread-pool.ts';
import { MTIME } from './canonical-metadata.ts';
import type { NarVisitor } from './nar-parser.ts';
import { OPERATION_FORMAT, TreeOperations } from './tree-operations.ts';
import { PROGRESS, type TreeOutcome, type TreeRequest, type TreeSettings, writeTree } from './tree-thread.ts';

/** So many operations in one block are worth the start of a thread. */
const MANY_OPERATIONS = 256;
/** To make a file takes about as long as to write so many bytes. */
const FILE_COST = 32 * 1024;
/** The second lane begins when the first is so much behind, in bytes: to start a thread takes as long as to write some MiB. */
const MUCH_BEHIND = 1024 * 1024;
/** Then a file goes to the other lane when this one is so much more behind. */
const MORE_BEHIND = 256 * 1024;

const threads = new ThreadPool(MAX_THREADS, writeTree);

interface Directory {
  readonly path: Buffer;
  /** What is put before the names of what is in it. */
  readonly prefix: Buffer;
  /** How many directories are made when it is. */
  readonly made: number;
}

/**
 * Writes what a NAR parser tells below `target`, which must not exist, with canonical metadata; another thread does it if it is much,
 * and a second one if the disk takes longer than the NAR.
 *
 * Files are created exclusively and links are never followed: together with the parser, which refuses duplicates and names
 * with a slash, nothing can land outside `target`.
 */
export class TreeWriter implements NarVisitor, Disposable {
  readonly #progress = new SharedArrayBuffer(PROGRESS.size);
  readonly #first: Lane;
  #second: Lane | undefined;
  /** The one that writes the file at hand. */
  #lane: Lane;
  /** Those that are open; the first stands for what `target` is in. */
  readonly #directories: [Directory, ...Directory[]];
  #made = 0;
  #hasCreated = false;

  constructor(target: string) {
    const path = Buffer.from(target);
    this.#directories = [{ path, prefix: path, made: 0 }];
    this.#first = this.#lane = new Lane(0, this.#progress);
  }

  /** Whether `target` was made by this writer. */
  get hasCreated(): boolean {
    return this.#hasCreated;
  }

  directory(name: Buffer): void {
    const path = Buffer.concat([this.#directory.prefix, name]);
    this.#first.directories.add('makeDirectory', { name: path });
    this.#directories.push({ path, prefix: Buffer.concat([path, Buffer.of(0x2f)]), made: ++this.#made });
  }

  directoryEnd(): void {
    const { path } = this.#directory;
    this.#directories.pop();
    this.#first.operations.add('sealDirectory', { name: path, after: this.#second?.requests ?? 0 });
  }

  symlink(name: Buffer, target: Buffer): void {
    this.#lane.enter(this.#directory);
    this.#lane.operations.add('symlink', { name, target });
  }

  file(name: Buffer, { executable }: { executable: boolean }): void {
    this.#lane = this.#laneForFile();
    this.#lane.enter(this.#directory);
    this.#lane.operations.add('file', { name, mode: executable ? 0o555 : 0o444 });
    this.#lane.addCost(FILE_COST);
  }

  /** `bytes` are in the block that {@link write} is given next. */
  data(bytes: Buffer): void {
    this.#lane.operations.add('data', { dataStart: bytes.byteOffset, dataLength: bytes.length });
    this.#lane.addCost(bytes.length);
  }

  fileEnd(): void {
    this.#lane.operations.add('fileEnd');
  }

  /** Writes what was told so far, with contents from `block`, which must not change until the promise is fulfilled. */
  async write(block: SharedArrayBuffer): Promise<void> {
    const asked = this.#lanes.map((lane) => lane.ask(block));
    this.#accept(await Promise.all(asked));
  }

  /** Waits until everything is written. */
  async finish(): Promise<void> {
    this.#first.finish();
    this.#accept(await Promise.all(this.#lanes.map((lane) => lane.last)));
    // It seals the directories that waited for the second.
    if (this.#second !== undefined) this.#accept([await this.#first.ask()]);
  }

  /** Waits until nothing more is written; what is said of it does not matter any more. */
  async abandon(): Promise<void> {
    // The first lane may have ended without a word to the second.
    const progress = new Int32Array(this.#progress);
    Atomics.store(progress, PROGRESS.made, 2 ** 31 - 1);
    Atomics.notify(progress, PROGRESS.made);
    const settled = await Promise.allSettled(this.#lanes.map((lane) => lane.abandon()));
    this.#hasCreated ||= settled.some((lane) => lane.status === 'fulfilled' && lane.value?.hasCreated === true);
  }

  [Symbol.dispose](): void {
    for (const lane of this.#lanes) lane[Symbol.dispose]();
  }

  get #directory(): Directory {
    return this.#directories.at(-1) ?? this.#directories[0];
  }

  get #lanes(): Lane[] {
    return this.#second === undefined ? [this.#first] : [this.#first, this.#second];
  }

  #laneForFile(): Lane {
    if (this.#second !== undefined) {
      const other = this.#lane === this.#first ? this.#second : this.#first;
      return other.behind + MORE_BEHIND < this.#lane.behind ? other : this.#lane;
    }
    if (this.#first.behind < MUCH_BEHIND || !this.#first.isElsewhere || !threads.hasRoom) return this.#first;
    return (this.#second = new Lane(1, this.#progress));
  }

  #accept(outcomes: readonly (TreeOutcome | undefined)[]): void {
    this.#hasCreated ||= outcomes.some((outcome) => outcome?.hasCreated);
    const failure = outcomes.find((outcome) => outcome?.failure)?.failure;
    if (failure === undefined) return;
    const { path, message, code } = failure;
    const cause = Object.assign(new Error(message), { code });
    throw new NixError('NIX_UNPACK_FAILED', `Cannot write "${Buffer.from(path).toString()}": ${message}`, { cause });
  }
}

/** What one thread is told. */
class Lane implements Disposable {
  readonly directories = new TreeOperations();
  readonly operations = new TreeOperations();
  /** Of those before it, it is the last to be done. */
  last: Promise<TreeOutcome | undefined> = Promise.resolve(undefined);
  readonly #job: DeferredJob<TreeSettings>;
  #directory: Directory | undefined;
  #behind = 0;
  #newCost = 0;
  #asked = 0;

  constructor(lane: TreeSettings['lane'], progress: SharedArrayBuffer) {
    const settings = { format: OPERATION_FORMAT, mtime: MTIME, lane, progress, progressFormat: PROGRESS };
    this.#job = new DeferredJob(threads, settings);
    if (lane === 1) this.#job.begin();
  }

  get isElsewhere(): boolean {
    return this.#job.isElsewhere;
  }

  /** About how many bytes it was told to write and has not. */
  get behind(): number {
    return this.#behind;
  }

  /** Requests there will be when all is asked for that it was told so far. */
  get requests(): number {
    return this.#asked + (this.operations.count > 0 ? 1 : 0);
  }

  addCost(bytes: number): void {
    this.#behind += bytes;
    this.#newCost += bytes;
  }

  /** What it is told next is in `directory`. */
  enter(directory: Directory): void {
    if (this.#directory === directory) return;
    this.#directory = directory;
    this.operations.add('enter', { name: directory.prefix, after: directory.made });
  }

  /** Has done what it was told since the last time; undefined if that is nothing. */
  ask(block?: SharedArrayBuffer): Promise<TreeOutcome | undefined> {
    const count = this.directories.count + this.operations.count;
    if (block !== undefined && count === 0) return Promise.resolve(undefined);
    if (count >= MANY_OPERATIONS) this.#job.begin();
    const cost = this.#newCost;
    this.#newCost = 0;
    this.#asked++;
    this.last = this.#job
      .ask<TreeOutcome>({
        directories: this.directories.take(),
        operations: this.operations.take(),
        block,
      } satisfies TreeRequest)
      .then((outcome) => {
        this.#behind -= cost;
        return outcome;
      });
    return this.last;
  }

  /** Nothing more is asked for. */
  finish(): void {
    this.#job.finish();
  }

  /** What it had done last, once it does nothing more. */
  abandon(): Promise<TreeOutcome | undefined> {
    this.#job.abandon();
    return this.last;
  }

  [Symbol.dispose](): void {
    this.#job[Symbol.dispose]();
  }
}
