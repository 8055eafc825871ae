import { NixError } from '../nix-error.ts';
import { DeferredJob } from '../threads/deferred-job.ts';
import { MAX_THREADS, ThreadPool, type ThreadWork } from '../threads/thread-pool.ts';
import { MTIME } from './canonical-metadata.ts';
import type { NarVisitor } from './nar-parser.ts';
import { OPERATION_FORMAT, type OperationFormat, TreeOperations } from './tree-operations.ts';

/** So many operations in one block are worth the start of a thread. */
const MANY_OPERATIONS = 256;

interface Settings {
  readonly target: Uint8Array;
  readonly format: OperationFormat;
  readonly mtime: number;
}

/** Operations, and the block with the contents that they are about. */
interface Request {
  readonly operations: Uint8Array;
  readonly block: SharedArrayBuffer;
}

interface Outcome {
  /** Whether anything was made at the target, now or earlier. */
  readonly hasCreated: boolean;
  /** Why an operation could not be carried out; none is after it. */
  readonly failure:
    | { readonly path: Uint8Array; readonly message: string; readonly code: string | undefined }
    | undefined;
}

const threads = new ThreadPool(MAX_THREADS, writeTree);

/**
 * Writes what a NAR parser tells below `target`, which must not exist, with canonical metadata; another thread does it if it is much.
 *
 * Files are created exclusively and links are never followed: together with the parser, which refuses duplicates and names
 * with a slash, nothing can land outside `target`.
 */
export class TreeWriter implements NarVisitor, Disposable {
  readonly #job: DeferredJob<Settings>;
  readonly #operations = new TreeOperations();
  /** Those before it are done when it is. */
  #last: Promise<Outcome> | undefined;
  #hasCreated = false;

  constructor(target: string) {
    const settings: Settings = { target: Buffer.from(target), format: OPERATION_FORMAT, mtime: MTIME };
    this.#job = new DeferredJob(threads, settings);
  }

  /** Whether `target` was made by this writer. */
  get hasCreated(): boolean {
    return this.#hasCreated;
  }

  directory(name: Buffer): void {
    this.#operations.add('directory', { name });
  }

  directoryEnd(): void {
    this.#operations.add('directoryEnd');
  }

  symlink(name: Buffer, target: Buffer): void {
    this.#operations.add('symlink', { name, target });
  }

  file(name: Buffer, { executable }: { executable: boolean }): void {
    this.#operations.add('file', { name, mode: executable ? 0o555 : 0o444 });
  }

  /** `bytes` are in the block that {@link write} is given next. */
  data(bytes: Buffer): void {
    this.#operations.add('data', { dataStart: bytes.byteOffset, dataLength: bytes.length });
  }

  fileEnd(): void {
    this.#operations.add('fileEnd');
  }

  /** Writes what was told so far, with contents from `block`, which must not change until the promise is fulfilled. */
  async write(block: SharedArrayBuffer): Promise<void> {
    if (this.#operations.count >= MANY_OPERATIONS) this.#job.begin();
    const outcome = this.#job.ask<Outcome>({ operations: this.#operations.take(), block } satisfies Request);
    this.#last = outcome;
    this.#accept(await outcome);
  }

  /** Waits until everything is written. */
  async finish(): Promise<void> {
    this.#job.finish();
    const last = await this.#last;
    if (last !== undefined) this.#accept(last);
  }

  /** Waits until nothing more is written; what is said of it does not matter any more. */
  async abandon(): Promise<void> {
    this.#job.abandon();
    await this.#last?.then(
      ({ hasCreated }) => (this.#hasCreated = hasCreated),
      () => undefined,
    );
  }

  [Symbol.dispose](): void {
    this.#job[Symbol.dispose]();
  }

  #accept({ hasCreated, failure }: Outcome): void {
    this.#hasCreated = hasCreated;
    if (failure === undefined) return;
    const { path, message, code } = failure;
    const cause = Object.assign(new Error(message), { code });
    throw new NixError('NIX_UNPACK_FAILED', `Cannot write "${Buffer.from(path).toString()}": ${message}`, { cause });
  }
}

/** What the thread runs. Goes there as text, so it knows nothing but itself. */
function writeTree({ target, format, mtime }: Settings): ThreadWork<Request> {
  const fs = process.getBuiltinModule('node:fs');
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = fs.constants;
  const openDirectories: Buffer[] = [];
  /** What the operation at hand is about. */
  let path: Buffer = Buffer.from(target);
  let file: { readonly fd: number; readonly mode: number } | undefined;
  let hasCreated = false;
  let failure: Outcome['failure'];
  /** Modes that a new file here has as asked for: `chmod` would change nothing. The umask or an ACL may take from others. */
  const exactModes = new Set<number>();

  const enter = (name: Buffer) => {
    const parent = openDirectories.at(-1);
    path = parent === undefined ? Buffer.from(target) : Buffer.concat([parent, Buffer.of(0x2f), name]);
  };
  const close = () => {
    if (file !== undefined) fs.closeSync(file.fd);
    file = undefined;
  };
  const operations = {
    directory({ name }) {
      enter(name);
      // Writable until it is complete: only root could create files in it otherwise.
      fs.mkdirSync(path, 0o755);
      openDirectories.push(path);
    },
    directoryEnd() {
      path = openDirectories.pop() ?? path;
      fs.chmodSync(path, 0o555);
      fs.utimesSync(path, mtime, mtime);
    },
    symlink({ name, linkTarget }) {
      enter(name);
      fs.symlinkSync(linkTarget, path);
      hasCreated = true;
      fs.lutimesSync(path, mtime, mtime);
    },
    file({ name, mode }) {
      enter(name);
      file = { fd: fs.openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode), mode };
    },
    data({ data }) {
      if (file === undefined) return;
      for (let at = 0; at < data.length;) at += fs.writeSync(file.fd, data, at);
    },
    fileEnd() {
      if (file === undefined) return;
      const { fd, mode } = file;
      if (!exactModes.has(mode)) {
        if ((fs.fstatSync(fd).mode & 0o7777) === mode) exactModes.add(mode);
        else fs.fchmodSync(fd, mode);
      }
      fs.futimesSync(fd, mtime, mtime);
      close();
    },
  } satisfies Record<
    OperationFormat['names'][number],
    (operands: { name: Buffer; mode: number; linkTarget: Buffer; data: Uint8Array }) => void
  >;
  const carryOut = (bytes: Buffer, block: SharedArrayBuffer) => {
    for (let at = 0; at < bytes.length;) {
      const nameStart = at + format.headerSize;
      const targetStart = nameStart + bytes.readUInt16LE(at + format.nameLengthAt);
      const end = targetStart + bytes.readUInt16LE(at + format.targetLengthAt);
      const dataStart = bytes.readUInt32LE(at + format.dataStartAt);
      operations[format.names[bytes[at] ?? 0] ?? 'data']({
        name: bytes.subarray(nameStart, targetStart),
        mode: bytes.readUInt16LE(at + format.modeAt),
        linkTarget: bytes.subarray(targetStart, end),
        data: new Uint8Array(block, dataStart, bytes.readUInt32LE(at + format.dataLengthAt)),
      });
      hasCreated = true;
      at = end;
    }
  };
  return {
    handle({ operations: bytes, block }, answer) {
      try {
        if (failure === undefined) carryOut(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), block);
      } catch (error) {
        const { message, code } = error as NodeJS.ErrnoException;
        failure = { path, message, code };
      }
      answer({ hasCreated, failure } satisfies Outcome, []);
    },
    end: close,
  };
}
