import { spawn } from 'node:child_process';
import { delimiter } from 'node:path';
import { text } from 'node:stream/consumers';
import { findExecutable } from '../find-executable.ts';
import { SandboxError } from '../sandbox-error.ts';

/** No command that deals with networks takes that long, unless it waits for something that does not come. */
const TIMEOUT_MS = 30_000;

const SBIN = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/** What a command said. */
export interface Said {
  code: number;
  stdout: string;
  stderr: string;
}

/**
 * Runs a command to its end, with nothing of this process' environment but PATH. `file`: a path, or a name to be found.
 *
 * @throws SandboxError SANDBOX_NETWORK_FAILED when it is not there, or does not end
 */
export async function runCommand(
  file: string,
  args: readonly string[],
  { input = '', environment = {} }: { input?: string; environment?: Readonly<Record<string, string>> } = {},
): Promise<Said> {
  const path = await findExecutable(file);
  if (path === undefined) {
    throw new SandboxError('SANDBOX_NETWORK_FAILED', `Cannot set up a network: "${file}" is not installed`, {
      hint: 'apt-get install iproute2 iptables util-linux containernetworking-plugins',
    });
  }
  const child = spawn(path, args, {
    cwd: '/',
    env: { PATH: searchPath(), ...environment },
    timeout: TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  // Whoever does not read what it is sent says why by itself.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), exitCode(child)]);
  if (code === null) {
    const message = `Cannot set up a network: "${path}" was killed, after ${TIMEOUT_MS / 1000} s or by somebody`;
    throw new SandboxError('SANDBOX_NETWORK_FAILED', message);
  }
  return { code, stdout, stderr };
}

/** Runs a command that must succeed; gives what it printed. `doing`: `"make the bridge "nex0"`, for the message. */
export async function demand(
  doing: string,
  [file = '', ...args]: readonly string[],
  options?: { input?: string },
): Promise<string> {
  const { code, stdout, stderr } = await runCommand(file, args, options);
  if (code === 0) return stdout;
  const said = stderr.trim() || `exit code ${code}`;
  throw new SandboxError('SANDBOX_NETWORK_FAILED', `Cannot ${doing}: ${file} says "${said}"`);
}

/** Plugins look for iptables on PATH, which often lacks the folders that it is in. */
function searchPath(): string {
  return [...new Set([...(process.env['PATH'] ?? '/usr/bin:/bin').split(delimiter), ...SBIN])].join(delimiter);
}

function exitCode(child: ReturnType<typeof spawn>): Promise<number | null> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
}
