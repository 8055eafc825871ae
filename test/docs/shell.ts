import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';

export interface Outcome {
  /** Exit code. */
  code: number;
  /** What it printed on stdout and stderr, as a terminal shows it. */
  lines: string[];
}

interface RunOptions {
  /** Milliseconds. */
  timeout: number;
}

interface ShellOptions {
  env: Record<string, string>;
  /** Where it starts. */
  folder: string;
  /** A pipe that is the keyboard of what stays up: as the shell sees it, and as this process does. */
  keyboard: { inside: string; outside: string };
}

/** One bash that takes a command after the other, as a person at a terminal gives them. Variables and folder stay. */
export class Shell {
  readonly #child: ChildProcess;
  #output = '';
  #notify = Promise.withResolvers<void>();
  #isOver = false;
  readonly #keyboard: ShellOptions['keyboard'];
  /** What is printed when what stays up has ended. */
  #endOfRunning = '';

  constructor(command: string, args: readonly string[], { env, folder, keyboard }: ShellOptions) {
    this.#keyboard = keyboard;
    this.#child = spawn(command, args, { env, stdio: ['pipe', 'pipe', 'pipe'] });
    for (const event of ['exit', 'error']) {
      this.#child.once(event, () => {
        this.#isOver = true;
        this.#wake();
      });
    }
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#output += text;
        this.#wake();
      });
    }
    // What is typed once bash is gone is told by what comes back: nothing.
    this.#child.stdin?.on('error', () => undefined);
    // One stream for both outputs keeps their order.
    this.#type(`exec 2>&1; cd ${quote(folder)}; mkfifo ${keyboard.inside}; exec 9<>${keyboard.inside}`);
  }

  /** Runs a command to its end. Throws when that does not come in time. */
  async run(command: string, { timeout }: RunOptions): Promise<Outcome> {
    const end = `‹${randomUUID()}›`;
    this.#output = '';
    // Read as a whole before it runs: the command must not get what comes after it as its input.
    this.#type(`eval ${quote(command)} </dev/null; printf '\\n%s%d\\n' '${end}' "$?"`);
    const pattern = new RegExp(`\n${end}(\\d+)\n`);
    await this.#until(() => pattern.test(this.#output), { timeout }, command);
    const [all = '', code] = pattern.exec(this.#output) ?? [];
    return { code: Number(code), lines: linesOf(this.#output.slice(0, this.#output.indexOf(all))) };
  }

  /**
   * Starts what stays up, on a terminal. Resolves with what it has printed when `isShown` says so of that; throws when it ends before.
   */
  async start(
    command: string,
    isShown: (lines: readonly string[]) => boolean,
    { timeout }: RunOptions,
  ): Promise<string[]> {
    const end = `‹${randomUUID()}›`;
    this.#output = '';
    this.#endOfRunning = end;
    this.#type(`script -qefc ${quote(command)} /dev/null <&9; printf '\\n%s\\n' '${end}'`);
    const hasEnded = () => this.#output.includes(end);
    await this.#until(() => hasEnded() || isShown(linesOf(this.#output)), { timeout }, command);
    if (!isShown(linesOf(this.#output)))
      throw new Error(`"${command}" has ended, and was to stay up:\n${this.#output}`);
    return linesOf(this.#output);
  }

  /** Presses Ctrl-C on what stays up, and waits for its end. Resolves with what it has printed since its start. */
  async interrupt({ timeout }: RunOptions): Promise<string[]> {
    await writeFile(this.#keyboard.outside, '\x03');
    await this.#until(() => this.#output.includes(this.#endOfRunning), { timeout }, 'Ctrl-C');
    const output = this.#output.slice(0, this.#output.indexOf(this.#endOfRunning));
    // Terminals show the key where it was pressed.
    return linesOf(output.replaceAll('^C', ''));
  }

  #type(text: string): void {
    this.#child.stdin?.write(`${text}\n`);
  }

  async #until(condition: () => boolean, { timeout }: RunOptions, command: string): Promise<void> {
    const late = AbortSignal.timeout(timeout);
    const waiting = once(late, 'abort');
    while (!condition()) {
      if (this.#isOver) throw new Error(`The shell has ended in "${command}":\n${this.#output}`);
      if (late.aborted) throw new Error(`"${command}" takes longer than ${timeout} ms:\n${this.#output}`);
      await Promise.race([this.#notify.promise, waiting]);
    }
  }

  #wake(): void {
    this.#notify.resolve();
    this.#notify = Promise.withResolvers();
  }
}

function linesOf(output: string): string[] {
  // A line that was written over, as progress is, shows what was written last.
  const lines = output.split('\n').map((line) => line.replace(/\r$/, '').replace(/^.*\r/, ''));
  while (lines.at(-1)?.trim() === '') lines.pop();
  return lines;
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
