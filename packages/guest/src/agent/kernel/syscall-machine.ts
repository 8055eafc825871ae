/**
 * A program that makes a list of system calls, one after the other, and nothing else. Node has no mount, no chroot and no
 * ioctl, and a tool for each takes tens of milliseconds to be executed where the processor is emulated; this takes
 * two or three for as many calls as there are. It is a static executable of some hundred bytes, written here as machine
 * code, with the calls as its data.
 *
 * A call is a record of {@link CALL_BYTES}: its number, six arguments, and whether it may fail. When one fails that may
 * not, the program writes the record's address and the result (an error number, negative) to descriptor
 * {@link REPORT_FD} and exits with 127. The last call has to be one that does not return.
 */

/** Address of the first call. */
export const DATA_ADDRESS = 0x60_0200;

/** Bytes of one call. */
export const CALL_BYTES = 64;

/** Descriptor for the report of a failure: address and result, 8 bytes each, little-endian. */
export const REPORT_FD = 3;

const FILE_ADDRESS = 0x40_0000;
const FILE_HEADER = 64;
const PROGRAM_HEADER = 56;

/** Where calls begin in the file: at the same distance from a page as their address, as elf(5) wants it. */
const DATA_OFFSET = 0x200;

/**
 * System calls by number in rax, arguments in rdi, rsi, rdx, r10, r8, r9 (Linux, `entry_64.S`); encodings from the
 * Intel 64 manual, volume 2. rbx is the call.
 */
const X64 = `
bb 00026000    mov ebx, 0x600200
488b03         mov rax, [rbx]        ; call:
488b7b 08      mov rdi, [rbx+8]
488b73 10      mov rsi, [rbx+16]
488b53 18      mov rdx, [rbx+24]
4c8b53 20      mov r10, [rbx+32]
4c8b43 28      mov r8, [rbx+40]
4c8b4b 30      mov r9, [rbx+48]
0f05           syscall
4885c0         test rax, rax
78 06          js failed
4883c3 40      add rbx, 64           ; next:
eb d8          jmp call
837b 38 00     cmp dword [rbx+56], 0 ; failed:
75 f4          jne next
50             push rax
53             push rbx
b8 01000000    mov eax, 1            ; write(3, address and result, 16)
bf 03000000    mov edi, 3
4889e6         mov rsi, rsp
ba 10000000    mov edx, 16
0f05           syscall
b8 e7000000    mov eax, 231          ; exit_group(127)
bf 7f000000    mov edi, 127
0f05           syscall`;

/**
 * System calls by number in x8, arguments in x0 to x5 (Linux, `asm-generic/unistd.h`); encodings from the Arm
 * Architecture Reference Manual for A-profile. x19 is the call.
 */
const ARM64 = `
130ca0d2  movz x19, #0x60, lsl #16
134080f2  movk x19, #0x200
680240f9  ldr x8, [x19]              ; call:
608640a9  ldp x0, x1, [x19, #8]
628e41a9  ldp x2, x3, [x19, #24]
649642a9  ldp x4, x5, [x19, #40]
010000d4  svc #0
6000f8b7  tbnz x0, #63, failed
73020191  add x19, x19, #64          ; next:
f9ffff17  b call
693a40b9  ldr w9, [x19, #56]         ; failed:
a9ffff35  cbnz w9, next
f303bfa9  stp x19, x0, [sp, #-16]!
080880d2  mov x8, #64                ; write(3, address and result, 16)
600080d2  mov x0, #3
e1030091  mov x1, sp
020280d2  mov x2, #16
010000d4  svc #0
c80b80d2  mov x8, #94                ; exit_group(127)
e00f80d2  mov x0, #127
010000d4  svc #0`;

/** By the name that Node has for an instruction set: the code, and the number that ELF has for the set (`e_machine`). */
const MACHINES: Readonly<Record<string, { listing: string; machine: number }>> = {
  x64: { listing: X64, machine: 62 },
  arm64: { listing: ARM64, machine: 183 },
};

/**
 * The file of a program that makes these calls.
 *
 * @param data Calls and what they point to, for {@link DATA_ADDRESS}.
 * @param arch As `process.arch`. Throws for one that there is no code for.
 */
export function syscallExecutable(data: Uint8Array, arch: string): Uint8Array {
  const target = MACHINES[arch];
  if (target === undefined) throw new Error(`Cannot make system calls: no code is there for processors "${arch}"`);
  const code = assemble(target.listing);
  const start = FILE_HEADER + 3 * PROGRAM_HEADER;
  const [executeRead, readWrite] = [5, 6];
  const file = Buffer.alloc(DATA_OFFSET + data.length);
  file.set(fileHeader(FILE_ADDRESS + start, target.machine));
  file.set(segment({ type: 1, flags: executeRead, offset: 0, address: FILE_ADDRESS, size: start + code.length }), 64);
  file.set(
    segment({ type: 1, flags: readWrite, offset: DATA_OFFSET, address: DATA_ADDRESS, size: data.length }),
    FILE_HEADER + PROGRAM_HEADER,
  );
  // PT_GNU_STACK: the stack is not executable.
  file.set(
    segment({ type: 0x6474_e551, flags: readWrite, offset: 0, address: 0, size: 0 }),
    FILE_HEADER + 2 * PROGRAM_HEADER,
  );
  file.set(code, start);
  file.set(data, DATA_OFFSET);
  return file;
}

/** Each line of a listing: the bytes in hexadecimal, two spaces, what they mean. */
function assemble(listing: string): Buffer {
  const lines = listing.trim().split('\n');
  return Buffer.concat(lines.map((line) => Buffer.from((line.split('  ')[0] ?? '').replaceAll(' ', ''), 'hex')));
}

/** Of a static ELF executable for Linux, see elf(5). */
function fileHeader(entry: number, machine: number): Buffer {
  const header = Buffer.alloc(FILE_HEADER);
  header.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]); // ELF, 64 bits, little-endian, version 1
  header.writeUInt16LE(2, 16); // ET_EXEC
  header.writeUInt16LE(machine, 18);
  header.writeUInt32LE(1, 20); // EV_CURRENT
  header.writeBigUInt64LE(BigInt(entry), 24);
  header.writeBigUInt64LE(BigInt(FILE_HEADER), 32); // e_phoff
  header.writeUInt16LE(FILE_HEADER, 52);
  header.writeUInt16LE(PROGRAM_HEADER, 54);
  header.writeUInt16LE(3, 56); // e_phnum
  return header;
}

interface Segment {
  type: number;
  flags: number;
  offset: number;
  address: number;
  size: number;
}

function segment({ type, flags, offset, address, size }: Segment): Buffer {
  // The largest page that any of the machines has.
  const align = type === 1 ? 0x1_0000 : 16;
  const header = Buffer.alloc(PROGRAM_HEADER);
  header.writeUInt32LE(type, 0);
  header.writeUInt32LE(flags, 4);
  for (const [at, value] of [
    [8, offset],
    [16, address],
    [32, size],
    [40, size],
    [48, align],
  ] as const) {
    header.writeBigUInt64LE(BigInt(value), at);
  }
  return header;
}
