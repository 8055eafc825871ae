/** The first string of every NAR. */
export const NAR_MAGIC = 'nix-archive-1';

/** A node at this depth is refused (the root has depth 0), as Nix does since 2.35. */
export const MAX_DEPTH = 64;
export const MAX_TAG_LENGTH = 32;
export const MAX_NAME_LENGTH = 255;
export const MAX_TARGET_LENGTH = 4095;

/** Bytes of zeros that follow a string of `length` bytes. */
export function paddingOf(length: number): number {
  return (8 - (length % 8)) % 8;
}

/** NAR strings one after the other: length as 64-bit little endian, bytes, zeros up to a multiple of 8. */
export function narStrings(...strings: (string | Uint8Array)[]): Buffer {
  const parts: Uint8Array[] = [];
  for (const string of strings) {
    const bytes = typeof string === 'string' ? Buffer.from(string) : string;
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(bytes.length));
    parts.push(length, bytes, Buffer.alloc(paddingOf(bytes.length)));
  }
  return Buffer.concat(parts);
}

/** What is wrong with the name of a directory entry, or undefined. */
export function nameFault(name: Uint8Array): string | undefined {
  if (name.length === 0) return 'is empty';
  if (name.length > MAX_NAME_LENGTH) return `has ${name.length} bytes, at most ${MAX_NAME_LENGTH} are allowed`;
  if (name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e))) return 'is "." or ".."';
  for (const byte of name) {
    if (byte === 0x2f) return 'contains "/"';
    if (byte === 0) return 'contains a NUL';
  }
  return undefined;
}

/** What is wrong with the target of a symbolic link, or undefined. */
export function targetFault(target: Uint8Array): string | undefined {
  if (target.length === 0) return 'is empty';
  if (target.length > MAX_TARGET_LENGTH) return `has ${target.length} bytes, at most ${MAX_TARGET_LENGTH} are allowed`;
  if (target.includes(0)) return 'contains a NUL';
  return undefined;
}
