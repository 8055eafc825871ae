import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { GuestError } from '../guest-error.ts';
import { isElf } from './elf.ts';
import { LZ4_LEGACY_MAGIC, unpackLz4Legacy } from './lz4.ts';
import { demandTool, runTool } from './tools.ts';

/** Of the setup header of a bzImage, all after "The Linux/x86 Boot Protocol" (Documentation/arch/x86/boot.rst). */
const SETUP_SECTORS = 0x1f1;
const HEADER_MAGIC = 0x202;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const SECTOR = 512;

/** Magic of an uncompressed kernel of arm64, and where it is (Documentation/arch/arm64/booting.rst). */
const ARM64_MAGIC = 'ARM\x64';
const ARM64_MAGIC_AT = 56;

/**
 * A kernel as virtual machine monitors start it fastest: `vmlinux` (ELF) out of the `vmlinuz` that distributions have on
 * x86-64, the plain `Image` on arm64. What is that already is returned as it is.
 *
 * @throws GuestError GUEST_BUILD_FAILED when it is no kernel or packed in an unknown way; GUEST_TOOL_MISSING without xz
 */
export async function unpackKernel(
  file: Buffer,
  { origin, signal }: { origin: string; signal?: AbortSignal | undefined },
): Promise<Buffer> {
  if (isKernel(file)) return file;
  try {
    if (isGzip(file)) return demandKernel(gunzipSync(file));
    if (file.toString('latin1', HEADER_MAGIC, HEADER_MAGIC + 4) === 'HdrS') {
      return demandKernel(await unpackPayload(payloadOf(file), { origin, signal }));
    }
  } catch (error) {
    if (error instanceof GuestError || signal?.aborted === true) throw error;
    throw new GuestError('GUEST_BUILD_FAILED', `Cannot unpack the kernel "${origin}": ${(error as Error).message}`, {
      cause: error,
      hint: 'Name another kernel with --kernel and its modules with --modules',
    });
  }
  throw new GuestError('GUEST_BUILD_FAILED', `Cannot unpack the kernel "${origin}": it is not a Linux kernel`, {
    hint: 'Name a vmlinuz, or an uncompressed vmlinux, with --kernel',
  });
}

function isKernel(file: Buffer): boolean {
  return isElf(file) || file.toString('latin1', ARM64_MAGIC_AT, ARM64_MAGIC_AT + 4) === ARM64_MAGIC;
}

function isGzip(file: Buffer): boolean {
  return file[0] === 0x1f && file[1] === 0x8b;
}

function demandKernel(unpacked: Buffer): Buffer {
  if (!isKernel(unpacked)) throw new RangeError('what is packed in it is no kernel');
  return unpacked;
}

function payloadOf(file: Buffer): Buffer {
  // Zero stands for four.
  const setup = (file.readUInt8(SETUP_SECTORS) || 4) + 1;
  const start = setup * SECTOR + file.readUInt32LE(PAYLOAD_OFFSET);
  const length = file.readUInt32LE(PAYLOAD_LENGTH);
  if (start + length > file.length) throw new RangeError('it ends before its payload does');
  return file.subarray(start, start + length);
}

/** All but gzip have the unpacked size behind the payload, four bytes. */
async function unpackPayload(
  payload: Buffer,
  { origin, signal }: { origin: string; signal?: AbortSignal | undefined },
): Promise<Buffer> {
  const withoutSize = payload.subarray(0, -4);
  if (isGzip(payload)) return gunzipSync(payload);
  if (payload.readUInt32LE(0) === LZ4_LEGACY_MAGIC) return unpackLz4Legacy(withoutSize);
  if (payload.readUInt32LE(0) === 0xfd2fb528) return zstdDecompressSync(withoutSize);
  if (payload.readUInt32BE(0) === 0xfd377a58) return unxz(withoutSize, { origin, signal });
  if (isElf(payload)) return payload;
  throw new RangeError(`it is compressed in an unknown way (${payload.toString('hex', 0, 4)})`);
}

/** Unpacks xz, with the program of that name: Node has none. */
export async function unxz(
  packed: Uint8Array,
  { origin, signal }: { origin: string; signal?: AbortSignal | undefined },
): Promise<Buffer> {
  const purpose = `unpack "${origin}"`;
  return runTool(purpose, [await demandTool('xz', purpose), '-dc'], { input: packed, signal });
}
