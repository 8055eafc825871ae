import type { NatsConnection } from '@nats-io/nats-core';
import type { NexClient } from '@nex-nix/protocol';
import type { Command } from 'commander';
import { printResult, type Result } from './output.ts';
import { VERSION } from './version.ts';

export interface GlobalOptions {
  context?: string;
  'nats.context'?: string;
  'nats.servers'?: string;
  'nats.credsFile'?: string;
  namespace: string;
  timeout?: number;
  json?: boolean;
  debug?: boolean;
}

/** What every command gets: where it acts, how it reaches NATS, when to give up. */
export class Context implements AsyncDisposable {
  readonly globals: GlobalOptions;
  /** Aborted by Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal;
  readonly #stack = new AsyncDisposableStack();

  constructor(globals: GlobalOptions) {
    this.globals = globals;
    const abort = new AbortController();
    this.signal = abort.signal;
    const stop = (): void => abort.abort();
    process.once('SIGINT', stop);
    process.once('SIGTERM', stop);
    this.#stack.defer(() => {
      process.off('SIGINT', stop);
      process.off('SIGTERM', stop);
    });
  }

  get namespace(): string {
    return this.globals.namespace;
  }

  /** What `--timeout` says, in milliseconds; undefined: each package's own default. */
  get timeoutMs(): number | undefined {
    return this.globals.timeout === undefined ? undefined : this.globals.timeout * 1_000;
  }

  /** A connection by the global options; closed when the command ends. A daemon's reconnects for ever. */
  async connect({ daemon = false } = {}): Promise<NatsConnection> {
    const { globals } = this;
    const { connectNats } = await import('@nex-nix/nats-context');
    const nc = await connectNats({
      context: globals.context ?? globals['nats.context'],
      servers: globals['nats.servers'],
      creds: globals['nats.credsFile'],
      name: `nex-${VERSION}`,
      timeoutMs: this.timeoutMs,
      reconnect: daemon,
    });
    this.#stack.defer(() => nc.close());
    return nc;
  }

  async client(): Promise<{ nc: NatsConnection; client: NexClient }> {
    const nc = await this.connect();
    const { NexClient } = await import('@nex-nix/protocol');
    const timeout = this.timeoutMs;
    return {
      nc,
      client: new NexClient(nc, { namespace: this.namespace, ...(timeout === undefined ? {} : { timeout }) }),
    };
  }

  /** A line for people, on stderr, so that stdout holds the result only. */
  say(text: string): void {
    if (this.globals.json !== true) process.stderr.write(`${text}\n`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }
}

/**
 * Makes a handler into a commander action: it gets the context, its own options and its arguments, and what it returns
 * is printed.
 */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- each command names the shape of its own options
export function action<Options>(
  handler: (context: Context, options: Options, ...args: string[]) => Promise<Result | undefined>,
): (this: Command, ...args: unknown[]) => Promise<void> {
  return async function (this: Command) {
    await using context = new Context(this.optsWithGlobals<GlobalOptions>());
    // A variadic argument arrives as an array of its own.
    const args = (this.processedArgs as (string | string[])[]).flat();
    const result = await handler(context, this.opts<Options & object>(), ...args);
    if (result === undefined) return;
    printResult(result, context.globals.json ?? false);
    process.exitCode = result.exitCode ?? 0;
  };
}
