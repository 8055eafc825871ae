import type { ThreadWork } from '../threads/thread-pool.ts';
import type { OperationFormat } from './tree-operations.ts';

/** Where in the memory that the lanes share they tell each other how far they are, as 32-bit numbers. */
export const PROGRESS = {
  /** Directories that were made. */
  made: 0,
  /** Requests that the second lane has done. */
  done: 1,
  size: 8,
} as const;

export interface TreeSettings {
  readonly format: OperationFormat;
  readonly mtime: number;
  /** The first lane makes all directories and seals them; the second writes a part of the files. */
  readonly lane: 0 | 1;
  readonly progress: SharedArrayBuffer;
  readonly progressFormat: typeof PROGRESS;
}

/** Directories to be made before everything else, operations, and the block with the contents that they are about. */
export interface TreeRequest {
  readonly directories: Uint8Array;
  readonly operations: Uint8Array;
  readonly block: SharedArrayBuffer | undefined;
}

export interface TreeOutcome {
  /** Whether anything was made at the target, now or earlier. */
  readonly hasCreated: boolean;
  /** Why an operation could not be carried out; none is after it. */
  readonly failure:
    | { readonly path: Uint8Array; readonly message: string; readonly code: string | undefined }
    | undefined;
}

/** What a thread that writes a tree runs. Goes there as text, so it knows nothing but itself. */
export function writeTree(settings: TreeSettings): ThreadWork<TreeRequest> {
  const fs = process.getBuiltinModule('node:fs');
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = fs.constants;
  const { format, mtime, lane, progressFormat } = settings;
  const progress = new Int32Array(settings.progress);
  /** What is put before names. */
  let prefix: Buffer = Buffer.alloc(0);
  /** What the operation at hand is about. */
  let path: Buffer = prefix;
  let file: { readonly fd: number; readonly mode: number } | undefined;
  let hasCreated = false;
  let failure: TreeOutcome['failure'];
  /** Modes that a new file here has as asked for: `chmod` would change nothing. The umask or an ACL may take from others. */
  const exactModes = new Set<number>();
  /** Complete but for files of the second lane. */
  const unsealed: { readonly path: Buffer; readonly after: number }[] = [];

  let made = 0;
  let done = 0;
  const tell = (index: number, count: number) => {
    Atomics.store(progress, index, count);
    Atomics.notify(progress, index);
  };
  const close = () => {
    if (file !== undefined) fs.closeSync(file.fd);
    file = undefined;
  };
  const seal = () => {
    for (;;) {
      const [first] = unsealed;
      if (first === undefined || Atomics.load(progress, progressFormat.done) < first.after) return;
      unsealed.shift();
      path = first.path;
      fs.chmodSync(path, 0o555);
      fs.utimesSync(path, mtime, mtime);
    }
  };
  const operations = {
    makeDirectory({ name }) {
      path = Buffer.from(name);
      // Writable until it is complete: only root could create files in it otherwise.
      fs.mkdirSync(path, 0o755);
      hasCreated = true;
      tell(progressFormat.made, ++made);
    },
    enter({ name, after }) {
      prefix = Buffer.from(name);
      for (;;) {
        const count = Atomics.load(progress, progressFormat.made);
        if (count >= after) break;
        Atomics.wait(progress, progressFormat.made, count);
      }
    },
    symlink({ name, linkTarget }) {
      path = Buffer.concat([prefix, name]);
      fs.symlinkSync(linkTarget, path);
      hasCreated = true;
      fs.lutimesSync(path, mtime, mtime);
    },
    file({ name, mode }) {
      path = Buffer.concat([prefix, name]);
      file = { fd: fs.openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode), mode };
      hasCreated = true;
    },
    data({ block, start, end }) {
      if (file === undefined) return;
      for (let at = start; at < end;) at += fs.writeSync(file.fd, block, at, end - at);
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
    sealDirectory({ name, after }) {
      unsealed.push({ path: Buffer.from(name), after });
      seal();
    },
  } satisfies Record<
    OperationFormat['names'][number],
    (operands: {
      name: Buffer;
      mode: number;
      linkTarget: Buffer;
      block: Uint8Array;
      start: number;
      end: number;
      after: number;
    }) => void
  >;
  const carryOut = (of: Uint8Array, block: Uint8Array) => {
    const bytes = Buffer.from(of.buffer, of.byteOffset, of.length);
    for (let at = 0; at < bytes.length;) {
      const nameStart = at + format.headerSize;
      const targetStart = nameStart + bytes.readUInt16LE(at + format.nameLengthAt);
      const next = targetStart + bytes.readUInt16LE(at + format.targetLengthAt);
      const start = bytes.readUInt32LE(at + format.dataStartAt);
      operations[format.names[bytes[at] ?? 0] ?? 'data']({
        name: bytes.subarray(nameStart, targetStart),
        mode: bytes.readUInt16LE(at + format.modeAt),
        linkTarget: bytes.subarray(targetStart, next),
        block,
        start,
        end: start + bytes.readUInt32LE(at + format.dataLengthAt),
        after: bytes.readUInt32LE(at + format.afterAt),
      });
      at = next;
    }
  };
  return {
    handle({ directories, operations: others, block }, answer) {
      try {
        if (failure === undefined) {
          const contents = block === undefined ? new Uint8Array() : new Uint8Array(block);
          carryOut(directories, contents);
          carryOut(others, contents);
          seal();
        }
      } catch (error) {
        const { message, code } = error as NodeJS.ErrnoException;
        failure = { path, message, code };
        // Nobody is to wait for what will not be made.
        if (lane === 0) tell(progressFormat.made, 2 ** 31 - 1);
      }
      if (lane === 1) tell(progressFormat.done, ++done);
      answer({ hasCreated, failure } satisfies TreeOutcome, []);
    },
    end: close,
  };
}
