import { BLOCK_ADDRESS, BLOCK_CAPACITY } from './gate.ts';

/** What a gate is to execute. */
export interface GateCommand {
  program: string;
  /** The program's own name included. */
  args: readonly string[];
  environment: Readonly<Record<string, string>>;
}

/** Tells the gate's own words from whatever a program prints. */
export const TOKEN_LENGTH = 16;

// Offsets in the block; addresses and the length are 64 bits, little-endian.
const LENGTH = 0;
const PATH = 8;
const ARGV = 16;
const ENVP = 24;
const TOKEN = 32;
/** The gate keeps the error number here, behind the token. */
const HEADER = 64;

/**
 * The block that a gate reads: header, pointers, strings, laid out for the address that it is read to. Undefined when it
 * would be larger than a gate takes, or a string has a NUL character, which would end it.
 *
 * @param token Random; {@link TOKEN_LENGTH} bytes.
 */
export function gateBlock({ program, args, environment }: GateCommand, token: Uint8Array): Buffer | undefined {
  const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  const strings = [program, ...args, ...variables].map((text) => Buffer.from(`${text}\0`));
  if (strings.some((bytes) => bytes.indexOf(0) !== bytes.length - 1)) return undefined;
  // Both arrays end with a null pointer.
  const argv = HEADER;
  const envp = argv + 8 * (args.length + 1);
  let end = envp + 8 * (variables.length + 1);
  const addresses = strings.map((bytes) => {
    const address = BLOCK_ADDRESS + end;
    end += bytes.length;
    return address;
  });
  if (end > BLOCK_CAPACITY) return undefined;
  const block = Buffer.alloc(end);
  const put = (at: number, value: number) => block.writeBigUInt64LE(BigInt(value), at);
  put(LENGTH, end);
  put(PATH, addresses[0] ?? 0);
  put(ARGV, BLOCK_ADDRESS + argv);
  put(ENVP, BLOCK_ADDRESS + envp);
  block.set(token.subarray(0, TOKEN_LENGTH), TOKEN);
  addresses.slice(1, 1 + args.length).forEach((address, index) => put(argv + 8 * index, address));
  addresses.slice(1 + args.length).forEach((address, index) => put(envp + 8 * index, address));
  for (const [index, bytes] of strings.entries()) block.set(bytes, (addresses[index] ?? 0) - BLOCK_ADDRESS);
  return block;
}

/** The error number of execve when this is what a gate prints that could not execute the program. */
export function gateErrno(printed: Uint8Array, token: Uint8Array): number | undefined {
  const isGates = printed.length === TOKEN_LENGTH + 1 && Buffer.from(token).equals(printed.subarray(0, TOKEN_LENGTH));
  return isGates ? printed[TOKEN_LENGTH] : undefined;
}
