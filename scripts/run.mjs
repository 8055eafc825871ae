// Runs a command to its end on behalf of this process: terminal shared, signals passed on, exit code taken over.
import { spawn } from 'node:child_process';
import { constants } from 'node:os';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/**
 * Resolves with the exit code once the command has ended. A signal that arrives meanwhile goes to the command, and to this
 * process itself when the command is through with cleaning up: nobody then takes the end for a success.
 * With `output`, an array, what the command prints is put there instead of on the terminal. After `patience` milliseconds
 * (default: for ever) a command that was told to end is killed.
 */
export async function runToEnd(command, args, { output, patience, ...options } = {}) {
  const child = spawn(command, args, {
    stdio: output === undefined ? 'inherit' : ['ignore', 'pipe', 'pipe'],
    ...options,
  });
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => output.push(chunk));
  let received;
  let killer;
  // Ctrl-C on a terminal reaches the command by itself too. Commands do not mind to be told twice.
  const pass = (signal) => {
    received ??= signal;
    child.kill(signal);
    if (patience !== undefined) killer ??= setTimeout(() => child.kill('SIGKILL'), patience);
  };
  for (const signal of SIGNALS) process.on(signal, pass);
  const code = await new Promise((resolve, reject) => {
    // What runs under sudo cannot be signalled from here: it is waited for.
    child.on('error', (error) => child.pid === undefined && reject(error));
    child.on('close', (status, signal) => resolve(status ?? 128 + constants.signals[signal]));
  }).finally(() => SIGNALS.forEach((signal) => process.off(signal, pass)));
  clearTimeout(killer);
  if (received !== undefined) await dieOf(received);
  return code;
}

/** The signal arrives in a later turn of the event loop, and ends this process in it. */
async function dieOf(signal) {
  process.kill(process.pid, signal);
  await new Promise((resolve) => setTimeout(resolve, 1_000));
}
