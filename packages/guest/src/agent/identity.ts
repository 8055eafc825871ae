import { readFileSync } from 'node:fs';
import { configureNetwork } from './network/configure.ts';
import type { Kernel } from './kernel/run-syscalls.ts';
import { AT_FDCWD, FIRST_FD, SyscallList } from './kernel/syscall-list.ts';
import type { Identify } from '../protocol/messages.ts';

const O_WRONLY = 1;

/** Linux, `uapi/linux/random.h`. */
const [RNDADDENTROPY, RNDRESEEDCRNG] = [0x4008_5203, 0x5207];

const CLOCK_REALTIME = 0;

/** A clock that is so close is left alone: programs do not like it to jump. */
const CLOCK_TOLERANCE_MS = 20;

/**
 * Makes a guest somebody: host name, clock, randomness, network. Guests of one snapshot have all of these in common
 * before, the state of the kernel's random generator too.
 */
export function identify(kernel: Kernel, { hostname, time, seed, network }: Identify): void {
  const list = new SyscallList();
  const name = Buffer.from(hostname);
  list.call('sethostname', name, name.length);
  reseed(list, Buffer.from(seed, 'base64'));
  const checkNetwork = configureNetwork(list, network);
  setTime(list, time);
  checkNetwork(kernel.run(list));
}

/** Sets the clock, unless it is right. */
export function setClock(kernel: Kernel, time: number): void {
  const list = new SyscallList();
  if (setTime(list, time)) kernel.run(list);
}

/** Random, other than that of all guests of the same snapshot, once it is identified. */
export function newBootId(): string {
  return readFileSync('/proc/sys/kernel/random/uuid', 'utf8').trim();
}

/**
 * What is written to /dev/urandom would be mixed in only some time later. These have the generator seeded anew, now.
 * Root alone can do this, so that nobody else's seed is taken for a good one.
 */
function reseed(list: SyscallList, seed: Buffer): void {
  const pool = Buffer.alloc(8 + seed.length);
  pool.writeInt32LE(seed.length * 8, 0);
  pool.writeInt32LE(seed.length, 4);
  pool.set(seed, 8);
  list
    .call('openat', AT_FDCWD, '/dev/urandom', O_WRONLY, 0)
    .call('ioctl', FIRST_FD, RNDADDENTROPY, pool)
    // ENODATA: the generator was never seeded, so that there is nothing to renew; it will take what was just added.
    .attempt('ioctl', FIRST_FD, RNDRESEEDCRNG, 0)
    .call('close', FIRST_FD);
}

function setTime(list: SyscallList, time: number): boolean {
  if (Math.abs(time - Date.now()) < CLOCK_TOLERANCE_MS) return false;
  const spec = Buffer.alloc(16);
  spec.writeBigInt64LE(BigInt(Math.floor(time / 1000)), 0);
  spec.writeBigInt64LE(BigInt(Math.floor((time % 1000) * 1e6)), 8);
  list.call('clock_settime', CLOCK_REALTIME, spec);
  return true;
}
