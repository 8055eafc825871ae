const MAGIC = Buffer.from([0x7f, 0x45, 0x4c, 0x46]);
const CLASS_64 = 2;
const LITTLE_ENDIAN = 1;
/** Type of the program header that names the loader. */
const PT_INTERP = 3;

/** Whether bytes begin as an ELF file of 64 bits and little endian, the only kind that this project meets. */
export function isElf(bytes: Uint8Array): boolean {
  return MAGIC.equals(bytes.subarray(0, 4)) && bytes[4] === CLASS_64 && bytes[5] === LITTLE_ENDIAN;
}

/** The loader that an ELF program asks for (`PT_INTERP`); undefined for a static one, and for what is no ELF file. */
export function elfInterpreter(file: Buffer): string | undefined {
  if (!isElf(file)) return undefined;
  const [start, size, count] = [Number(file.readBigUInt64LE(32)), file.readUInt16LE(54), file.readUInt16LE(56)];
  for (let index = 0; index < count; index++) {
    const header = start + index * size;
    if (file.readUInt32LE(header) !== PT_INTERP) continue;
    const offset = Number(file.readBigUInt64LE(header + 8));
    const length = Number(file.readBigUInt64LE(header + 32));
    return file.toString('utf8', offset, offset + length - 1);
  }
  return undefined;
}

/** The bytes of a section; undefined when there is none of that name. */
export function elfSection(file: Buffer, wanted: string): Buffer | undefined {
  if (!isElf(file)) return undefined;
  const [start, size] = [Number(file.readBigUInt64LE(40)), file.readUInt16LE(58)];
  const [count, ofNames] = [file.readUInt16LE(60), file.readUInt16LE(62)];
  const bytesOf = (index: number): Buffer => {
    const header = start + index * size;
    const offset = Number(file.readBigUInt64LE(header + 24));
    return file.subarray(offset, offset + Number(file.readBigUInt64LE(header + 32)));
  };
  const names = bytesOf(ofNames);
  for (let index = 0; index < count; index++) {
    const name = file.readUInt32LE(start + index * size);
    if (names.toString('latin1', name, names.indexOf(0, name)) === wanted) return bytesOf(index);
  }
  return undefined;
}
