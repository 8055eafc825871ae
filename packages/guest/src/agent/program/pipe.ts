import { closeSync, constants, openSync, unlinkSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import type { Kernel } from '../kernel/run-syscalls.ts';
import { AT_FDCWD, SyscallList } from '../kernel/syscall-list.ts';

const S_IFIFO = 0o010_000;

/**
 * A pipe whose one end is given to a program. Node would make a pair of sockets, which cannot be opened again by
 * the name `/dev/stdout`, as many scripts do.
 */
export class Pipe {
  /** Our end. */
  readonly reader: Socket;
  /** The program's. */
  readonly writer: number;
  #isOpen = true;

  private constructor(file: string) {
    // Opened for both first: alone, either end would wait for the other.
    const both = openSync(file, constants.O_RDWR);
    try {
      this.reader = new Socket({ fd: openSync(file, constants.O_RDONLY | constants.O_NONBLOCK), writable: false });
      this.reader.pause();
      this.writer = openSync(file, constants.O_WRONLY);
    } finally {
      closeSync(both);
    }
  }

  /** Makes some that this user may open. */
  static make<Stream extends string>(
    kernel: Kernel,
    { folder, name, streams, uid, gid }: PipeOptions<Stream>,
  ): Record<Stream, Pipe> {
    const list = new SyscallList();
    const fileOf = (stream: Stream) => join(folder, `${name}-${stream}`);
    for (const file of streams.map(fileOf)) {
      list.call('mknodat', AT_FDCWD, file, S_IFIFO | 0o600, 0).call('fchownat', AT_FDCWD, file, uid, gid, 0);
    }
    kernel.run(list);
    return Object.fromEntries(streams.map((stream) => [stream, Pipe.#open(fileOf(stream))])) as Record<Stream, Pipe>;
  }

  static #open(file: string): Pipe {
    try {
      return new Pipe(file);
    } finally {
      unlinkSync(file);
    }
  }

  /** Closes our copy of the program's end: once the program has ended nobody has it any more. */
  closeWriter(): void {
    if (this.#isOpen) closeSync(this.writer);
    this.#isOpen = false;
  }

  /** Closes both. */
  discard(): void {
    this.closeWriter();
    this.reader.destroy();
  }
}

export interface PipeOptions<Stream extends string> {
  folder: string;
  /** Of no other pipes in the folder at the same time. */
  name: string;
  streams: readonly Stream[];
  uid: number;
  gid: number;
}
