import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { GuestConfig } from '../guest-config.ts';
import { hasCode, refused } from '../refused.ts';

/** How long the kernel may take to see that a disk has another size, and how often that is looked at. */
const GROW_MS = 5000;
const GROW_LOOK_MS = 5;

/** Bytes of a unit of `size` in sysfs. */
const SECTOR = 512;

/**
 * Makes a file system on the disk in a slot.
 *
 * @param bytes Its size: the guest may take the disk for larger than it is.
 * @throws GuestError GUEST_REFUSED
 */
export async function formatScratch(
  { slots, tools }: GuestConfig,
  { slot, bytes }: { slot: number; bytes: number },
): Promise<void> {
  const device = slots[slot];
  if (device === undefined) throw refused('invalid', `Cannot use the disk in slot ${slot}: there is no such slot`);
  if (tools.mkfs === undefined) {
    throw refused('failed', 'Cannot make a file system: this guest has no mkfs.ext4');
  }
  await untilLarge(device, bytes);
  // No journal and no reserve: it does not outlive the program.
  const options = ['-q', '-F', '-m', '0', '-O', '^has_journal', '-E', 'lazy_itable_init=1,nodiscard'];
  try {
    await promisify(execFile)(tools.mkfs, [...options, device, `${Math.floor(bytes / 1024)}k`], { env: {} });
  } catch (error) {
    throw refused('failed', `Cannot make a file system on "${device}": ${(error as Error).message}`, { cause: error });
  }
}

/** A disk that was put into its slot a moment ago grows when the kernel has been told. Without its size known, mkfs says what is wrong. */
async function untilLarge(device: string, bytes: number): Promise<void> {
  const deadline = Date.now() + GROW_MS;
  while (sectorsOf(device) * SECTOR < bytes && Date.now() < deadline) await delay(GROW_LOOK_MS);
}

function sectorsOf(device: string): number {
  try {
    return Number(readFileSync(join('/sys/class/block', basename(device), 'size'), 'utf8'));
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return Infinity;
    throw error;
  }
}
