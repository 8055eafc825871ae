import { CALL_BYTES, DATA_ADDRESS, syscallExecutable } from './syscall-machine.ts';

/** Numbers of system calls on x86-64 (`asm/unistd_64.h`), and those of all newer machines (`asm-generic/unistd.h`). */
const NUMBERS = {
  capset: [126, 91],
  chdir: [80, 49],
  chroot: [161, 51],
  clock_settime: [227, 112],
  close: [3, 57],
  close_range: [436, 436],
  execve: [59, 221],
  exit_group: [231, 94],
  fchownat: [260, 54],
  fcntl: [72, 25],
  ioctl: [16, 29],
  mkdirat: [258, 34],
  mknodat: [259, 33],
  mount: [165, 40],
  openat: [257, 56],
  prctl: [157, 167],
  prlimit64: [302, 261],
  reboot: [169, 142],
  recvfrom: [45, 207],
  sendto: [44, 206],
  setgroups: [116, 159],
  sethostname: [170, 161],
  setresgid: [119, 149],
  setresuid: [117, 147],
  socket: [41, 198],
  symlinkat: [266, 36],
  sync: [162, 81],
  umask: [95, 166],
  umount2: [166, 39],
  write: [1, 64],
} as const satisfies Record<string, readonly [x64: number, generic: number]>;

export type SyscallName = keyof typeof NUMBERS;

/** A number, or what a pointer is passed to: text (with its final NUL), bytes, several texts (and a null pointer). */
export type Argument = number | string | Uint8Array | readonly string[];

/** The lowest descriptor that is free in a program of ours: what its first `openat` or `socket` returns. */
export const FIRST_FD = 4;

/** For the folder argument of calls whose name ends with `at`. */
export const AT_FDCWD = -100;

interface Call {
  name: SyscallName;
  args: readonly Argument[];
  mayFail: boolean;
}

/** System calls to be made by a process of their own, in order. The first that fails ends it, where it is not allowed to. */
export class SyscallList {
  readonly #calls: Call[] = [];

  call(name: SyscallName, ...args: readonly Argument[]): this {
    this.#calls.push({ name, args, mayFail: false });
    return this;
  }

  /** A call whose failure does not matter. */
  attempt(name: SyscallName, ...args: readonly Argument[]): this {
    this.#calls.push({ name, args, mayFail: true });
    return this;
  }

  /** Opens a file to write, writes this, closes it. No other file may be open. */
  write(file: string, text: string): this {
    const bytes = Buffer.from(text);
    return this.call('openat', AT_FDCWD, file, O_WRONLY, 0)
      .call('write', FIRST_FD, bytes, bytes.length)
      .call('close', FIRST_FD);
  }

  /** The call that a report is about. */
  describe(address: bigint): { name: SyscallName; text: string } | undefined {
    const call = this.#calls[Number(address - BigInt(DATA_ADDRESS)) / CALL_BYTES];
    if (call === undefined) return undefined;
    const texts = call.args.filter((arg) => typeof arg === 'string' && arg !== '');
    return { name: call.name, text: [call.name, ...texts.map((text) => JSON.stringify(text))].join(' ') };
  }

  /** The executable, for this machine unless `arch` says otherwise. */
  executable(arch: string = process.arch): Uint8Array {
    const data = new Data(this.#calls.length * CALL_BYTES);
    const calls = Buffer.alloc(this.#calls.length * CALL_BYTES);
    for (const [index, { name, args, mayFail }] of this.#calls.entries()) {
      const at = index * CALL_BYTES;
      calls.writeBigInt64LE(BigInt(NUMBERS[name][arch === 'x64' ? 0 : 1]), at);
      for (const [place, arg] of args.entries()) calls.writeBigInt64LE(data.value(arg), at + 8 * (place + 1));
      calls.writeInt32LE(mayFail ? 1 : 0, at + 56);
    }
    return syscallExecutable(Buffer.concat([calls, data.bytes]), arch);
  }
}

const O_WRONLY = 1;

/** What arguments point to. The same array of bytes passed to two calls is one place in memory. */
class Data {
  readonly #parts: Buffer[] = [];
  readonly #known = new Map<Uint8Array, bigint>();
  #next: number;

  constructor(callBytes: number) {
    this.#next = DATA_ADDRESS + callBytes;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }

  value(arg: Argument): bigint {
    if (typeof arg === 'number') return BigInt(arg);
    if (typeof arg === 'string') return this.#add(terminated(arg));
    if (!(arg instanceof Uint8Array)) return this.#pointers(arg);
    const known = this.#known.get(arg) ?? this.#add(Buffer.from(arg));
    this.#known.set(arg, known);
    return known;
  }

  #pointers(texts: readonly string[]): bigint {
    const array = Buffer.alloc(8 * (texts.length + 1));
    for (const [index, text] of texts.entries()) array.writeBigInt64LE(this.#add(terminated(text)), index * 8);
    return this.#add(array);
  }

  #add(bytes: Buffer): bigint {
    const address = this.#next;
    const padded = Buffer.concat([bytes, Buffer.alloc(-bytes.length & 7)]);
    this.#parts.push(padded);
    this.#next += padded.length;
    return BigInt(address);
  }
}

function terminated(text: string): Buffer {
  if (text.includes('\0')) throw new TypeError('a NUL character in an argument of a system call');
  return Buffer.from(`${text}\0`);
}
