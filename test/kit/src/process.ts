import { spawn, type SpawnOptions } from 'node:child_process';
import { once } from 'node:events';

export interface RunningProcess extends AsyncDisposable {
  readonly pid: number;
  /** Everything printed so far on stdout and stderr, in order of arrival. */
  output(): string;
  stdout(): string;
  stderr(): string;
  kill(signal?: NodeJS.Signals): void;
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
}

/** Starts a program, keeps what it prints, and makes sure that it is gone when it goes out of scope (`detached`: its whole group). */
export function startProcess(command: string, args: readonly string[], options: SpawnOptions = {}): RunningProcess {
  const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    output += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    output += text;
  });
  const exited = (async () => {
    const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
    return { code, signal };
  })();
  exited.catch((error: unknown) => {
    output += `\n${command}: ${String(error)}\n`;
  });
  return {
    pid: child.pid ?? -1,
    output: () => output,
    stdout: () => stdout,
    stderr: () => stderr,
    kill: (signal = 'SIGTERM') => void child.kill(signal),
    exited,
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) {
        if (options.detached === true && child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
        else child.kill('SIGKILL');
        await exited.catch(() => undefined);
      }
    },
  };
}
