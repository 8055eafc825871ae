/**
 * The gate: the program that a warm sandbox runs until it is told which one to run. A closure has nothing that could
 * wait and then execute something else with an environment that is known only then, so this package brings it: a static
 * executable of a few hundred bytes, written here as machine code.
 *
 * It prints {@link READY}, reads a block (see `gate-block.ts`) from stdin to a fixed address, neither a byte more nor
 * less, and executes what the block names. What follows on stdin is left to that program. If the block ends early or
 * makes no sense, it exits with 127; if the kernel refuses to execute the program, it prints the block's token and the
 * error number before that. It knows no path, no environment and no secret.
 */

/** Where it is in the sandbox. No private folder has such a name. */
export const GATE_PATH = '/run/.gate';

/** Address that it reads the block to. */
export const BLOCK_ADDRESS = 0x60_0000;

/** Longest block, in bytes. */
export const BLOCK_CAPACITY = 0x20_0000;

/** What it prints once it waits: the first byte of its own file. */
export const READY = 0x7f;

/** Its exit status when it does not execute the program. */
export const GATE_FAILED = 127;

const FILE_ADDRESS = 0x40_0000;
const FILE_HEADER = 64;
const PROGRAM_HEADER = 56;

/**
 * System calls by number in eax, arguments in edi, esi, edx (Linux, `entry_64.S`); encodings from the Intel 64 manual,
 * volume 2. ebx is where the next byte goes, ebp where the block ends.
 */
const X64 = `
b8 01000000        mov eax, 1            ; write(1, file, 1)
bf 01000000        mov edi, 1
be 00004000        mov esi, 0x400000
ba 01000000        mov edx, 1
0f05               syscall
bb 00006000        mov ebx, 0x600000
8d6b 40            lea ebp, [rbx+64]     ; the header first
31c0               xor eax, eax          ; more: read(0, ebx, ebp-ebx)
31ff               xor edi, edi
89de               mov esi, ebx
89ea               mov edx, ebp
29da               sub edx, ebx
0f05               syscall
4885c0             test rax, rax
7e 5e              jle stop
01c3               add ebx, eax
39eb               cmp ebx, ebp
72 e9              jb more
8b0425 00006000    mov eax, [0x600000]   ; the block's length
3d 00002000        cmp eax, 0x200000
77 4a              ja stop
8da8 00006000      lea ebp, [rax+0x600000]
39eb               cmp ebx, ebp
72 d1              jb more
75 3e              jne stop              ; shorter than its header
b8 3b000000        mov eax, 59           ; execve(path, argv, envp)
488b3c25 08006000  mov rdi, [0x600008]
488b3425 10006000  mov rsi, [0x600010]
488b1425 18006000  mov rdx, [0x600018]
0f05               syscall
f7d8               neg eax               ; it returns with -errno only
880425 30006000    mov [0x600030], al
b8 01000000        mov eax, 1            ; write(1, token and errno, 17)
bf 01000000        mov edi, 1
be 20006000        mov esi, 0x600020
ba 11000000        mov edx, 17
0f05               syscall
b8 e7000000        mov eax, 231          ; stop: exit_group(127)
bf 7f000000        mov edi, 127
0f05               syscall`;

/**
 * System calls by number in x8, arguments in x0 to x2 (Linux, `asm-generic/unistd.h`); encodings from the Arm
 * Architecture Reference Manual for A-profile. x21 is where the next byte goes, x20 where the block ends.
 */
const ARM64 = `
080880d2  mov x8, #64             ; write(1, file, 1)
200080d2  mov x0, #1
0108a0d2  movz x1, #0x40, lsl #16
220080d2  mov x2, #1
010000d4  svc #0
130ca0d2  movz x19, #0x60, lsl #16
f50313aa  mov x21, x19
74020191  add x20, x19, #64       ; the header first
e80780d2  mov x8, #63             ; more: read(0, x21, x20-x21)
000080d2  mov x0, #0
e10315aa  mov x1, x21
820215cb  sub x2, x20, x21
010000d4  svc #0
1f0000f1  cmp x0, #0
0d030054  b.le stop
b502008b  add x21, x21, x0
bf0214eb  cmp x21, x20
e3feff54  b.lo more
690240b9  ldr w9, [x19]           ; the block's length
0a04a0d2  movz x10, #0x20, lsl #16
3f010aeb  cmp x9, x10
28020054  b.hi stop
7402098b  add x20, x19, x9
bf0214eb  cmp x21, x20
03feff54  b.lo more
a1010054  b.ne stop               ; shorter than its header
a81b80d2  mov x8, #221            ; execve(path, argv, envp)
600640f9  ldr x0, [x19, #8]
610a40f9  ldr x1, [x19, #16]
620e40f9  ldr x2, [x19, #24]
010000d4  svc #0
e003004b  neg w0, w0              ; it returns with -errno only
60c20039  strb w0, [x19, #48]
080880d2  mov x8, #64             ; write(1, token and errno, 17)
200080d2  mov x0, #1
61820091  add x1, x19, #32
220280d2  mov x2, #17
010000d4  svc #0
c80b80d2  mov x8, #94             ; stop: exit_group(127)
e00f80d2  mov x0, #127
010000d4  svc #0`;

/** By the name that Node has for an instruction set: the code, and the number that ELF has for the set (`e_machine`). */
const GATES: Readonly<Record<string, { listing: string; machine: number }>> = {
  x64: { listing: X64, machine: 62 },
  arm64: { listing: ARM64, machine: 183 },
};

/**
 * The file of the gate; undefined for instruction sets that it was not written for.
 *
 * @param arch As `process.arch`.
 */
export function gateFor(arch: string): Uint8Array | undefined {
  const gate = GATES[arch];
  return gate && executable(assemble(gate.listing), gate.machine);
}

/** Each line of a listing: the bytes in hexadecimal, two spaces, what they mean. */
function assemble(listing: string): Buffer {
  const lines = listing.trim().split('\n');
  return Buffer.concat(lines.map((line) => Buffer.from((line.split('  ')[0] ?? '').replaceAll(' ', ''), 'hex')));
}

/**
 * A static ELF executable for Linux, see elf(5): the file itself is mapped, executable and read-only, and an empty,
 * writable area for the block; nothing is both.
 */
function executable(code: Uint8Array, machine: number): Buffer {
  const [executeRead, readWrite] = [5, 6];
  const pages = 0x1_0000;
  const start = FILE_HEADER + 3 * PROGRAM_HEADER;
  const size = start + code.length;
  const head = Buffer.alloc(FILE_HEADER);
  head.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]); // ELF, 64 bits, little-endian, version 1
  head.writeUInt16LE(2, 16); // ET_EXEC
  head.writeUInt16LE(machine, 18);
  head.writeUInt32LE(1, 20); // EV_CURRENT
  head.writeBigUInt64LE(BigInt(FILE_ADDRESS + start), 24); // e_entry
  head.writeBigUInt64LE(BigInt(FILE_HEADER), 32); // e_phoff
  head.writeUInt16LE(FILE_HEADER, 52);
  head.writeUInt16LE(PROGRAM_HEADER, 54);
  head.writeUInt16LE(3, 56); // e_phnum
  return Buffer.concat([
    head,
    segment({ type: 1, flags: executeRead, address: FILE_ADDRESS, fileSize: size, memorySize: size, pages }),
    segment({ type: 1, flags: readWrite, address: BLOCK_ADDRESS, fileSize: 0, memorySize: BLOCK_CAPACITY, pages }),
    // PT_GNU_STACK: the stack is not executable.
    segment({ type: 0x6474_e551, flags: readWrite, address: 0, fileSize: 0, memorySize: 0, pages: 16 }),
    code,
  ]);
}

interface Segment {
  type: number;
  flags: number;
  address: number;
  fileSize: number;
  memorySize: number;
  /** What its address is a multiple of: the largest page that any of the machines has. */
  pages: number;
}

function segment({ type, flags, address, fileSize, memorySize, pages }: Segment): Buffer {
  const header = Buffer.alloc(PROGRAM_HEADER);
  header.writeUInt32LE(type, 0);
  header.writeUInt32LE(flags, 4);
  for (const [at, value] of [
    [16, address],
    [24, address],
    [32, fileSize],
    [40, memorySize],
    [48, pages],
  ] as const)
    header.writeBigUInt64LE(BigInt(value), at);
  return header;
}
