import { closeSync, openSync, readSync } from 'node:fs';

const ELF_MAGIC = 0x7f454c46;
const PT_INTERP = 3;
const HEAD_SIZE = 4096;
/** What the kernel reads of a script's first line. */
const SCRIPT_LINE_MAX = 256;
const PATH_MAX = 4096;

/**
 * The program that the kernel starts to run `file`: the dynamic loader of an ELF executable, or what the `#!` line of a script
 * names. Undefined when it needs none, or is of no such format.
 * Source of the formats: elf(5), execve(2).
 */
export function interpreterOf(file: string): string | undefined {
  const handle = openSync(file, 'r');
  try {
    return interpreterIn((position, length) => {
      const buffer = Buffer.alloc(length);
      return buffer.subarray(0, readSync(handle, buffer, 0, length, position));
    });
  } finally {
    closeSync(handle);
  }
}

function interpreterIn(read: (position: number, length: number) => Buffer): string | undefined {
  const head = read(0, HEAD_SIZE);
  if (head.length > 2 && head.toString('latin1', 0, 2) === '#!') return scriptInterpreter(head);
  if (head.length < 64 || head.readUInt32BE() !== ELF_MAGIC) return undefined;
  const place = loaderPlace(head);
  if (place === undefined) return undefined;
  const path = read(place.offset, Math.min(place.size, PATH_MAX));
  const end = path.indexOf(0);
  return path.toString('utf8', 0, end === -1 ? path.length : end);
}

function scriptInterpreter(head: Buffer): string | undefined {
  const line = head.toString('utf8', 2, SCRIPT_LINE_MAX).split('\n', 1)[0] ?? '';
  return /^[ \t]*([^ \t]+)/.exec(line)?.[1];
}

/** Where in the file the path of the dynamic loader is; program headers beyond the first page are not looked at. */
function loaderPlace(head: Buffer): { offset: number; size: number } | undefined {
  const is64 = head[4] === 2;
  const isLittle = head[5] === 1;
  const u16 = (at: number) => (isLittle ? head.readUInt16LE(at) : head.readUInt16BE(at));
  const u32 = (at: number) => (isLittle ? head.readUInt32LE(at) : head.readUInt32BE(at));
  const word = (at: number) => {
    if (!is64) return u32(at);
    return Number(isLittle ? head.readBigUInt64LE(at) : head.readBigUInt64BE(at));
  };
  const table = word(is64 ? 32 : 28);
  const entrySize = u16(is64 ? 54 : 42);
  const count = u16(is64 ? 56 : 44);
  for (let i = 0, at = table; i < count && at + (is64 ? 56 : 32) <= head.length; i++, at += entrySize) {
    if (u32(at) === PT_INTERP) return { offset: word(at + (is64 ? 8 : 4)), size: word(at + (is64 ? 32 : 16)) };
  }
  return undefined;
}
