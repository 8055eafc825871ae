import type { Duplex } from 'node:stream';
import { SandboxError } from '../../sandbox-error.ts';
import { isReturnOf, type QmpArguments, type QmpCommand, type QmpReturn } from './qmp-commands.ts';
import { parseQmpMessage, type QemuVersion, type QmpEvent, type QmpMessage } from './qmp-message.ts';

/** Longest line that QEMU has reason to write: the whole console in Base64 is a tenth of it. */
const MAX_LINE = 1024 * 1024;

/** Every command that we use is answered at once; QEMU answers none while it is stuck. */
const ANSWER_TIMEOUT_MS = 15_000;

interface Waiting {
  command: QmpCommand;
  resolve: (value: unknown) => void;
  reject: (error: Error) => void;
}

/**
 * QEMU's monitor, at the other end of a stream. QEMU serves one client at a time: the next gets its greeting when this one
 * has gone.
 *
 * Every error is SANDBOX_VMM_FAILED. What is malformed ends the connection: nothing after it can be relied on.
 */
export class QmpClient implements Disposable {
  readonly version: QemuVersion;
  /** Resolves with the reason when nothing can be asked any more. Never rejects. */
  readonly closed: Promise<SandboxError>;
  readonly #wire: Wire;

  private constructor(wire: Wire, version: QemuVersion) {
    this.#wire = wire;
    this.version = version;
    this.closed = wire.closed;
  }

  /** Waits for the greeting and agrees on what is spoken. `onEvent` gets every event, also those before a command's return. */
  static async open(
    stream: Duplex,
    { onEvent = () => undefined, signal }: { onEvent?: (event: QmpEvent) => void; signal?: AbortSignal } = {},
  ): Promise<QmpClient> {
    const wire = new Wire(stream, onEvent);
    const abort = () => stream.destroy(signal?.reason as Error);
    signal?.addEventListener('abort', abort, { once: true });
    if (signal?.aborted === true) abort();
    try {
      const client = new QmpClient(wire, await wire.greeting);
      await client.execute('qmp_capabilities');
      return client;
    } catch (error) {
      stream.destroy();
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  async execute<C extends QmpCommand>(
    command: C,
    ...[options]: undefined extends QmpArguments[C] ? [] : [QmpArguments[C]]
  ): Promise<QmpReturn<C>> {
    const value = await this.#wire.ask(command, options);
    if (isReturnOf(command, value)) return value;
    const error = failed(`Cannot understand what QEMU returns for "${command}": ${JSON.stringify(value)}`);
    this.#wire.fail(error);
    throw error;
  }

  [Symbol.dispose](): void {
    this.#wire.fail(failed('Cannot ask QEMU anything: its monitor was let go of'));
  }
}

/** Lines from and to QEMU. */
class Wire {
  readonly greeting: Promise<QemuVersion>;
  readonly closed: Promise<SandboxError>;
  readonly #stream: Duplex;
  readonly #onEvent: (event: QmpEvent) => void;
  readonly #greeted = Promise.withResolvers<QemuVersion>();
  readonly #closing = Promise.withResolvers<SandboxError>();
  readonly #waiting = new Map<number, Waiting>();
  #pieces: Buffer[] = [];
  #length = 0;
  #lastId = 0;
  #failure: SandboxError | undefined;

  constructor(stream: Duplex, onEvent: (event: QmpEvent) => void) {
    this.#stream = stream;
    this.#onEvent = onEvent;
    this.greeting = this.#greeted.promise;
    this.closed = this.#closing.promise;
    // Who waits for it learns of it; nobody has to.
    this.greeting.catch(() => undefined);
    stream.on('data', (bytes: Buffer) => this.#take(bytes));
    stream.on('end', () => this.fail(failed('Cannot ask QEMU anything: it has closed its monitor')));
    stream.on('error', (error) =>
      this.fail(failed(`Cannot ask QEMU anything: its monitor is gone (${error.message})`, error)),
    );
    stream.on('close', () => this.fail(failed('Cannot ask QEMU anything: its monitor is closed')));
  }

  async ask(command: QmpCommand, options: unknown): Promise<unknown> {
    if (this.#failure !== undefined) throw this.#failure;
    const id = ++this.#lastId;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#waiting.set(id, { command, resolve, reject });
    const timer = setTimeout(() => {
      this.fail(failed(`Cannot have QEMU do "${command}": it does not answer within ${ANSWER_TIMEOUT_MS / 1000} s`));
    }, ANSWER_TIMEOUT_MS);
    this.#stream.write(`${JSON.stringify({ execute: command, arguments: options, id })}\n`);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(id);
    }
  }

  /** Ends the connection; the first reason counts. */
  fail(error: SandboxError): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#stream.destroy();
    this.#greeted.reject(error);
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#closing.resolve(error);
  }

  #take(bytes: Buffer): void {
    let rest = bytes;
    for (let end = rest.indexOf(0x0a); end >= 0 && this.#failure === undefined; end = rest.indexOf(0x0a)) {
      const line = Buffer.concat([...this.#pieces, rest.subarray(0, end)]).toString();
      this.#pieces = [];
      this.#length = 0;
      rest = rest.subarray(end + 1);
      if (line.trim() !== '') this.#read(line);
    }
    if (rest.length > 0) this.#pieces.push(rest);
    this.#length += rest.length;
    if (this.#length > MAX_LINE)
      this.fail(failed('Cannot understand what QEMU says on its monitor: a line has no end'));
  }

  #read(line: string): void {
    try {
      this.#handle(parseQmpMessage(line));
    } catch (error) {
      if (!(error instanceof SandboxError)) throw error;
      this.fail(error);
    }
  }

  #handle(message: QmpMessage): void {
    if (message.kind === 'greeting') return this.#greeted.resolve(message.version);
    if (message.kind === 'event') return this.#onEvent(message.event);
    const waiting = this.#waiting.get(message.id);
    if (waiting === undefined) throw failed(`Cannot understand QEMU: it answers ${message.id}, which nobody asked`);
    if (message.kind === 'return') return waiting.resolve(message.value);
    const { class: kind, description } = message;
    waiting.reject(failed(`Cannot have QEMU do "${waiting.command}": ${description} (${kind})`));
  }
}

function failed(message: string, cause?: Error): SandboxError {
  return new SandboxError('SANDBOX_VMM_FAILED', message, cause === undefined ? {} : { cause });
}
