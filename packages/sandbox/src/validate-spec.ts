import { posix } from 'node:path';
import { isNexError } from '@nex-nix/errors';
import { parseStorePath } from '@nex-nix/nix';
import { SandboxError } from './sandbox-error.ts';
import type { ExecSpec, PrivateFolder, Resources, SandboxSpec } from './sandbox.ts';

const ID = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;

/** Whether `id` may name a sandbox. */
export function isSandboxId(id: string): boolean {
  return ID.test(id);
}

/** Throws SANDBOX_SPEC_INVALID, naming the field, unless the spec makes sense by itself. Looks at no file. */
export function validateSpec(spec: SandboxSpec): void {
  if (!isSandboxId(spec.id)) {
    throw invalid(spec, `the id ${JSON.stringify(spec.id)} is not [A-Za-z0-9][A-Za-z0-9_-]{0,63}`);
  }
  validateClosure(spec);
  validateCommand(spec);
  validateEnvironment(spec);
  validateResources(spec, spec.resources);
  validatePrivateFolder(spec, spec.privateFolder);
  if (!['bridge', 'host', 'none'].includes(spec.network)) {
    throw invalid(spec, `the network ${JSON.stringify(spec.network)} is not "bridge", "host" or "none"`);
  }
}

function validateClosure(spec: SandboxSpec): void {
  const seen = new Set<string>();
  for (const { storePath, source } of spec.closure) {
    assertStorePath(spec, storePath);
    if (seen.has(storePath)) throw invalid(spec, `"${storePath}" is twice in the closure`);
    seen.add(storePath);
    if (!posix.isAbsolute(source) || source.includes('\0')) {
      throw invalid(spec, `the source ${JSON.stringify(source)} of "${storePath}" is not an absolute path`);
    }
  }
}

/** It becomes a mount point, so nothing but a store path will do. */
function assertStorePath(spec: SandboxSpec, storePath: string): void {
  try {
    parseStorePath(storePath);
  } catch (error) {
    if (!isNexError(error)) throw error;
    throw invalid(spec, `${JSON.stringify(storePath)} is not a store path (/nix/store/<hash>-<name>)`, error);
  }
}

/** Throws SANDBOX_SPEC_INVALID, naming the field, unless a command of the sandbox `id` makes sense by itself. */
export function validateExec(id: string, { program, argv, environment = {} }: ExecSpec): void {
  if (!posix.isAbsolute(program) || program.includes('\0')) {
    throw invalid({ id, verb: 'run a command in' }, `the program ${JSON.stringify(program)} is not an absolute path`);
  }
  validateArguments({ id, argv, verb: 'run a command in' });
  validateEnvironment({ id, environment, verb: 'run a command in' });
}

function validateCommand(spec: SandboxSpec): void {
  const { program } = spec;
  const below = spec.closure.some(({ storePath }) => program === storePath || program.startsWith(`${storePath}/`));
  if (!below || posix.normalize(program) !== program || program.includes('\0') || program.endsWith('/')) {
    throw invalid(spec, `the program ${JSON.stringify(program)} is not a plain path below a store path of the closure`);
  }
  validateArguments(spec);
}

function validateArguments(spec: Pick<SandboxSpec, 'argv'> & Subject): void {
  const bad = spec.argv.findIndex((argument) => argument.includes('\0'));
  if (bad !== -1) throw invalid(spec, `argument ${bad + 1} contains a NUL character`);
}

/** Throws SANDBOX_SPEC_INVALID unless a program can be given these variables. */
export function validateEnvironment(spec: Pick<SandboxSpec, 'environment'> & Subject): void {
  for (const [name, value] of Object.entries(spec.environment)) {
    if (name === '' || /[=\0\n]/.test(name)) {
      throw invalid(spec, `the environment name ${JSON.stringify(name)} is empty or contains "=", NUL or a newline`);
    }
    // The value stays out of the message: it may be a secret.
    if (value.includes('\0')) throw invalid(spec, `the value of "${name}" in the environment contains a NUL character`);
  }
}

function validateResources(spec: SandboxSpec, { memory, cpus, pids, tmp, logRate }: Resources): void {
  for (const [name, value] of Object.entries({ memory, pids, tmp, logRate })) {
    if (value !== undefined && !(Number.isSafeInteger(value) && value > 0)) {
      throw invalid(spec, `the limit ${name} is ${value}, expected a positive integer`);
    }
  }
  // The kernel refuses a quota under 1 ms per period, which is 100 ms.
  if (cpus !== undefined && !(Number.isFinite(cpus) && cpus >= 0.01)) {
    throw invalid(spec, `the limit cpus is ${cpus}, expected at least 0.01`);
  }
}

/** Whether `name` may be a file of a private folder. */
export function isPrivateFileName(name: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(name);
}

function validatePrivateFolder(spec: SandboxSpec, folder: PrivateFolder | undefined): void {
  if (folder === undefined) return;
  if (!/^\/run\/[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(folder.path)) {
    throw invalid(spec, `the private folder ${JSON.stringify(folder.path)} is not /run/<name>`);
  }
  const bad = Object.keys(folder.files).find((name) => !isPrivateFileName(name));
  if (bad !== undefined) throw invalid(spec, `the name ${JSON.stringify(bad)} of a private file is not plain`);
}

/** What an error is about. */
interface Subject {
  id: string;
  /** What cannot be done with the sandbox. @default 'make' */
  verb?: string;
}

function invalid({ id, verb = 'make' }: Subject, state: string, cause?: unknown): SandboxError {
  const message = `Cannot ${verb} the sandbox ${JSON.stringify(id)}: ${state}`;
  return new SandboxError('SANDBOX_SPEC_INVALID', message, cause === undefined ? {} : { cause });
}
