import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { SandboxError } from '../../sandbox-error.ts';
import { readProc } from '../../supervisor/process-identity.ts';
import { temporaryFolder } from '../../temporary-folder.ts';

/**
 * Frequency of this machine's time stamp counter in kHz, as its kernel tells it: where nothing changes the processor's
 * frequency, the figure in `/proc/cpuinfo` is that of the counter. Undefined where it is another.
 *
 * @param cpuinfo Text of `/proc/cpuinfo`, see proc_cpuinfo(5).
 */
export function knownTscKhz(cpuinfo: string, { scales }: { scales: boolean }): number | undefined {
  const flags = /^flags\s*:(.*)$/m.exec(cpuinfo)?.[1]?.split(' ') ?? [];
  // With it, the kernel shows what the processor has run at in the last moment.
  if (scales || flags.includes('aperfmperf') || !flags.includes('constant_tsc')) return undefined;
  const mhz = Number(/^cpu MHz\s*: (\d+\.\d+)$/m.exec(cpuinfo)?.[1]);
  return mhz > 0 ? Math.round(mhz * 1000) : undefined;
}

/** As {@link knownTscKhz}, of this machine. */
export function machineTscKhz(): number | undefined {
  return knownTscKhz(readProc('cpuinfo') ?? '', { scales: existsSync('/sys/devices/system/cpu/cpu0/cpufreq') });
}

/** Milliseconds over which the counter is measured. An error of 0.1 ms at both ends is 0.02 %: a second in 80 minutes. */
const SPAN_MS = 1000;

/** The quickest of so many exchanges says best what the counter was at a time. */
const EXCHANGES = 12;

const EXCHANGE_TIMEOUT_MS = 5000;

const FIRMWARE_SIZE = 64 * 1024;

/** x86 machine code for a processor that has just been reset: for every byte on the first serial line, 8 of its counter. */
const FIRMWARE = Buffer.from(
  [
    'bafd03', // start: mov dx, 0x3fd
    'ec', // wait: in al, dx
    'a801', // test al, 1
    '74fb', // jz wait
    'b2f8', // mov dl, 0xf8
    'ec', // in al, dx
    '0f31', // rdtsc
    '6689c3', // mov ebx, eax
    '6689d1', // mov ecx, edx
    'baf803', // mov dx, 0x3f8
    'be0400', // mov si, 4
    '88d8ee66c1eb084e75f6', // low: mov al, bl; out dx, al; shr ebx, 8; dec si; jnz low
    'be0400', // mov si, 4
    '88c8ee66c1e9084e75f6', // high: mov al, cl; out dx, al; shr ecx, 8; dec si; jnz high
    'ebce', // jmp start
  ].join(''),
  'hex',
);

/** Where a processor begins, from the end of the firmware, and what is there: a jump to its first byte. */
const RESET = 16;
const JUMP = Buffer.from('e90d00', 'hex');

/**
 * Measures how fast the time stamp counter is that a guest under TCG sees, against this machine's clock, in kHz. QEMU runs a
 * program of a few bytes for that. Takes a second.
 *
 * @throws SandboxError SANDBOX_VMM_FAILED
 */
export async function measureTscKhz(qemu: string): Promise<number> {
  await using folder = await temporaryFolder('tsc');
  const firmware = Buffer.alloc(FIRMWARE_SIZE);
  FIRMWARE.copy(firmware);
  JUMP.copy(firmware, FIRMWARE_SIZE - RESET);
  const file = join(folder.path, 'firmware');
  let child: ChildProcess | undefined;
  try {
    await writeFile(file, firmware);
    const machine = ['-M', 'microvm,accel=tcg', '-cpu', 'max', '-m', '16M', '-bios', file];
    const isolation = ['-nodefaults', '-no-user-config', '-display', 'none', '-sandbox', 'on,spawn=deny'];
    child = spawn(qemu, [...machine, ...isolation, '-chardev', 'stdio,id=line,signal=off', '-serial', 'chardev:line'], {
      stdio: ['pipe', 'pipe', 'ignore'],
      env: {},
    });
    await once(child, 'spawn');
    const gone = new AbortController();
    child.once('close', () => gone.abort());
    // Its end is told by "close".
    child.stdin?.on('error', () => undefined);
    const first = await readCounter(child, gone.signal);
    await delay(SPAN_MS, undefined, { signal: gone.signal });
    const second = await readCounter(child, gone.signal);
    return Math.round(Number(second.ticks - first.ticks) / (second.time - first.time));
  } catch (error) {
    throw new SandboxError('SANDBOX_VMM_FAILED', 'Cannot measure the time stamp counter: QEMU does not tell it', {
      cause: error,
    });
  } finally {
    child?.kill('SIGKILL');
  }
}

/** The counter, and the time in milliseconds at which it was that. */
async function readCounter(
  { stdin, stdout }: ChildProcess,
  gone: AbortSignal,
): Promise<{ ticks: bigint; time: number }> {
  if (stdin === null || stdout === null) throw new TypeError('QEMU has no serial line');
  const signal = AbortSignal.any([gone, AbortSignal.timeout(EXCHANGE_TIMEOUT_MS)]);
  let best = { took: Infinity, ticks: 0n, time: 0 };
  for (let exchange = 0; exchange < EXCHANGES; exchange++) {
    const sent = performance.now();
    stdin.write('?');
    let answer = Buffer.alloc(0);
    while (answer.length < 8) {
      const [bytes] = (await once(stdout, 'data', { signal })) as [Buffer];
      answer = Buffer.concat([answer, bytes]);
    }
    const took = performance.now() - sent;
    if (took < best.took) best = { took, ticks: answer.readBigUInt64LE(), time: sent + took / 2 };
  }
  return best;
}
