// The definitions of the command-line parser, by the types that the command has them in.
import type { buildProgram } from '../../packages/cli/src/program.ts';

export type Command = Awaited<ReturnType<typeof buildProgram>>;
export type Option = Command['options'][number];
