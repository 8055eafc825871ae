import { join } from 'node:path';
import { startProcess } from '@nex-nix/test-kit';

/** The command, for node to run. */
export const NEX = join(import.meta.dirname, '../../packages/cli/bin/nex.js');

export interface NexRun {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Variables that would make a command act elsewhere than the test wants. */
const FOREIGN = ['NATS_URL', 'NATS_CONTEXT', 'NATS_CREDS', 'NATS_USER', 'NEX_NAMESPACE', 'XDG_CONFIG_HOME'];

/** nex devrun keeps keys at home, and those of whoever runs the tests are not to be touched. */
const HOME = join(import.meta.dirname, '../../node_modules/.cache/nex-test-home');

function nexEnvironment(env: Record<string, string | undefined> = {}): NodeJS.ProcessEnv {
  const clean = { ...process.env };
  for (const name of FOREIGN) delete clean[name];
  return { ...clean, HOME, NO_COLOR: '1', ...env };
}

/** The nex command and its environment, for who starts it in another way. */
export function nexCommand(args: readonly string[], env?: Record<string, string | undefined>) {
  return { command: [process.execPath, NEX, ...args], env: nexEnvironment(env) };
}

/** Starts the nex command as a user would. */
export function startNex(args: readonly string[], env?: Record<string, string | undefined>) {
  return startProcess(process.execPath, [NEX, ...args], { env: nexEnvironment(env) });
}

/** Runs the nex command to its end. */
export async function runNex(args: readonly string[], env?: Record<string, string | undefined>): Promise<NexRun> {
  await using run = startNex(args, env);
  const { code } = await run.exited;
  return { code, stdout: run.stdout(), stderr: run.stderr() };
}
