import type { NatsConnection } from '@nats-io/nats-core';
import type { NexClient } from '@nex-nix/protocol';
import type { Command } from 'commander';
import { CliError } from './cli-error.ts';
import type { Config, Configured } from './config-files.ts';
import { type ConnectionSettings, connectionSettings } from './connection.ts';
import type { GlobalOptions } from './global-options.ts';
import { printResult, type Result } from './output.ts';
import { configOf, rootOf } from './settle-options.ts';
import { VERSION } from './version.ts';

export type { GlobalOptions } from './global-options.ts';

/** What every command gets: where it acts, how it reaches NATS, when to give up. */
export class Context implements AsyncDisposable {
  readonly globals: GlobalOptions;
  /** Where to connect, as options and configuration files say. */
  readonly connection: ConnectionSettings;
  /** Aborted by Ctrl-C and SIGTERM, and when the time of the whole command is over. */
  readonly signal: AbortSignal;
  /** Rejects when the time of the whole command is over. */
  readonly overdue: Promise<never>;
  readonly #config: Config;
  readonly #stack = new AsyncDisposableStack();
  #budget: NodeJS.Timeout | undefined;

  constructor(command: Command) {
    this.globals = command.optsWithGlobals<GlobalOptions>();
    this.#config = configOf(command);
    this.connection = connectionSettings(rootOf(command), this.#config);
    const abort = new AbortController();
    this.signal = abort.signal;
    const stop = (): void => abort.abort();
    process.once('SIGINT', stop);
    process.once('SIGTERM', stop);
    this.#stack.defer(() => {
      process.off('SIGINT', stop);
      process.off('SIGTERM', stop);
    });
    const { promise, reject } = Promise.withResolvers<never>();
    promise.catch(() => undefined);
    this.overdue = promise;
    const budget = this.globals['nats.timeout'];
    if (budget === undefined) return;
    this.#budget = setTimeout(() => {
      reject(
        new CliError('CLI_TIMEOUT', `Cannot finish in ${budget} ms: that is the time that --nats.timeout gives`, {
          hint: 'Give it more, or see what is slow with --debug',
        }),
      );
      abort.abort();
    }, budget);
    this.#stack.defer(() => clearTimeout(this.#budget));
  }

  get namespace(): string {
    return this.globals.namespace;
  }

  /** How long to wait for the other side, in milliseconds; undefined: each package's own default. */
  get timeoutMs(): number | undefined {
    return this.globals.timeout;
  }

  /** What a configuration file says of something that has no option, as `agents`. */
  config(key: string): Configured | undefined {
    return this.#config.get(key);
  }

  /** Keys of configuration files that change nothing here, since they are of earlier versions; with their files. */
  get idleKeys(): { file: string; keys: string[] }[] {
    return this.#config.idleKeys;
  }

  /** The configuration files that were read, the strongest first. */
  get configFiles(): string[] {
    return this.#config.files;
  }

  /** A connection by the global options; closed when the command ends. A daemon's reconnects for ever, and its time is not limited. */
  async connect({ daemon = false } = {}): Promise<NatsConnection> {
    const { connectNats } = await import('@nex-nix/nats-context');
    if (daemon) clearTimeout(this.#budget);
    const budget = daemon ? undefined : this.globals['nats.timeout'];
    const nc = await connectNats({
      ...this.connection,
      name: this.globals['nats.connName'] ?? `nex-${VERSION}`,
      timeoutMs: this.timeoutMs ?? (budget === undefined ? undefined : Math.min(budget, DEFAULT_CONNECT_TIMEOUT)),
      reconnect: daemon,
      signal: this.signal,
    });
    this.#stack.defer(() => nc.close());
    return nc;
  }

  /** A client on a connection of its own, or on one that there is. */
  async client(connection?: NatsConnection): Promise<{ nc: NatsConnection; client: NexClient }> {
    const nc = connection ?? (await this.connect());
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

/** How long a connection may take where nothing says how long, in milliseconds. */
const DEFAULT_CONNECT_TIMEOUT = 5_000;

/**
 * Makes a handler into a commander action: it gets the context, its own options and its arguments, and what it returns
 * is printed. `takesCheck`: the handler itself knows what `--check` means, which shows the options elsewhere.
 */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- each command names the shape of its own options
export function action<Options>(
  handler: (context: Context, options: Options, ...args: string[]) => Promise<Result | undefined>,
  { takesCheck = false }: { takesCheck?: boolean } = {},
): (this: Command, ...args: unknown[]) => Promise<void> {
  return async function (this: Command) {
    await using context = new Context(this);
    if (context.globals.check === true && !takesCheck) {
      const { describeOptions } = await import('./describe-options.ts');
      printResult(describeOptions(this, context), context.globals.json ?? false);
      return;
    }
    // A variadic argument arrives as an array of its own.
    const args = (this.processedArgs as (string | string[])[]).flat();
    const handling = handler(context, this.opts<Options & object>(), ...args);
    // What it runs into after its time is over is said already.
    handling.catch(() => undefined);
    const result = await Promise.race([context.overdue, handling]);
    if (result === undefined) return;
    printResult(result, context.globals.json ?? false);
    process.exitCode = result.exitCode ?? 0;
  };
}
