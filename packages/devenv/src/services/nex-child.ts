import { Child, describeExit } from '../supervisor/child.ts';
import { describeRecord, parseRecord } from '../supervisor/describe-record.ts';
import { DevError } from '../dev-error.ts';
import type { OnLine, Run } from '../supervisor/service.ts';

export interface NexChildOptions {
  /** How nex is run: program and first arguments. */
  command: readonly string[];
  /** What it is to do. Log lines as JSON, and the end with standard input, are added. */
  args: readonly string[];
  env: Record<string, string>;
  /** What is started, for messages: `the node`. */
  what: string;
  /** Message of the log line that says that it is ready. */
  ready: string;
  readyTimeoutMs: number;
  graceMs: number;
  signal: AbortSignal;
  onLine: OnLine;
}

/** A daemon of nex that is ready, and what its log line says of that. */
export interface NexChild extends Run {
  readonly record: Readonly<Record<string, unknown>>;
}

/** What nex says of its failure, on standard output with `--json`. */
export interface Failure {
  code: string;
  message: string;
  hint?: string;
}

/** Starts a daemon of nex, and waits until it is ready. Errors: `DevError` DEVENV_SERVICE_FAILED; then nothing of it is left. */
export async function startNexChild(options: NexChildOptions): Promise<NexChild> {
  const { command, args, ready, signal } = options;
  signal.throwIfAborted();
  const isReady = Promise.withResolvers<Readonly<Record<string, unknown>>>();
  const output = new NexOutput(options.onLine, (record) => {
    if (record['msg'] === ready) isReady.resolve(record);
  });
  // The last ones win: a configuration file, or an argument, must not hide the line that says that it is ready.
  const last = ['--json', '--logger.target', 'std', '--logger.level', 'info', '--until-stdin-ends'];
  const child = new Child({
    command: [...command, ...args, ...last],
    env: environment(options.env),
    graceMs: options.graceMs,
    onLine: (source, line) => output.take(source, line),
  });
  const ended = child.exited.then((exit) => {
    output.end();
    return output.failure === undefined ? describeExit(exit) : `${describeExit(exit)}: ${output.failure.message}`;
  });
  try {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(options.readyTimeoutMs)]);
    const record = await Promise.race([isReady.promise, ended, untilAborted(limit)]);
    signal.throwIfAborted();
    if (record === undefined)
      throw failed(options, { message: `it is not ready after ${options.readyTimeoutMs / 1000} s` });
    if (typeof record === 'string')
      throw failed(options, output.failure ?? { message: [`it ended with ${record}`, ...output.words].join(': ') });
    return { record, pid: child.pid, ended, [Symbol.asyncDispose]: () => child[Symbol.asyncDispose]() };
  } catch (error) {
    await child[Symbol.asyncDispose]();
    throw error;
  }
}

function failed({ what }: NexChildOptions, { code, message, hint }: Partial<Failure>): DevError {
  return new DevError('DEVENV_SERVICE_FAILED', `Cannot start ${what}: ${message}`, {
    hint: hint ?? 'Its output is in the log of the dev services',
    cause: code === undefined ? undefined : new NexFailure(code),
  });
}

/** The stable code of the error with which a command of nex has ended. */
export class NexFailure extends Error {
  readonly code: string;

  constructor(code: string) {
    super(code);
    this.name = 'NexFailure';
    this.code = code;
  }
}

/** Reads what a daemon prints: log records on stderr; at a failure, a document over several lines on stdout. */
class NexOutput {
  failure: Failure | undefined;
  /** The last line that is no log record: of a program that could not begin, the reason. */
  words: [] | [string] = [];
  readonly #onLine: OnLine;
  readonly #onRecord: (record: Readonly<Record<string, unknown>>) => void;
  #document: string[] = [];

  constructor(onLine: OnLine, onRecord: (record: Readonly<Record<string, unknown>>) => void) {
    this.#onLine = onLine;
    this.#onRecord = onRecord;
  }

  take(source: 'stdout' | 'stderr', line: string): void {
    if (source === 'stdout' && (line === '{' || this.#document.length > 0)) {
      this.#document.push(line);
      if (line === '}' || this.#document.length > 100) this.end();
      return;
    }
    const record = parseRecord(line);
    this.#onLine(source, record === undefined ? line : describeRecord(record));
    if (record === undefined && line.trim() !== '') this.words = [line.trim()];
    if (record !== undefined) this.#onRecord(record);
  }

  end(): void {
    const lines = this.#document.splice(0);
    const error = failureOf(lines.join('\n'));
    if (error === undefined) {
      for (const line of lines) this.#onLine('stdout', line);
      return;
    }
    this.failure = error;
    this.#onLine('stderr', `ERROR ${error.message}${error.hint === undefined ? '' : `; ${error.hint}`}`);
  }
}

/** The failure in a document that nex has printed; undefined when it holds none. */
export function failureOf(document: string): Failure | undefined {
  return parseRecord(document.trim())?.['error'] as Failure | undefined;
}

/** That of this process, without what would lead the command elsewhere than to these services. */
function environment(own: Record<string, string>): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !name.startsWith('NATS_') && !/^NEX_(?:NAMESPACE$|ISSUER_|SYSTEM_CONTEXT$)/.test(name),
  );
  return { ...Object.fromEntries(inherited), ...own };
}

async function untilAborted(signal: AbortSignal): Promise<undefined> {
  if (signal.aborted) return undefined;
  const { promise, resolve } = Promise.withResolvers<undefined>();
  signal.addEventListener('abort', () => resolve(undefined), { once: true });
  return promise;
}
