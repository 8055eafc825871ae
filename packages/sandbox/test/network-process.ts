/**
 * A runtime in a network namespace that a test has made. Takes calls on stdin and answers on stdout, a line of JSON each:
 * `{method, params}`, then `{result}` or `{error: {code, message}}`. Arguments: state folder, and for virtual machines the
 * folder of a guest image.
 */
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import {
  MicrovmRuntime,
  OciRuntime,
  type OciRuntimeOptions,
  type Runtime,
  type Sandbox,
  type SandboxSpec,
} from '@nex-nix/sandbox';
import { output } from './bed.ts';

const [, , stateDir = '', guestImage] = process.argv;

/** What a test can have done in the namespace; one call at a time. */
export class NetworkProcess {
  #runtime: (Runtime & AsyncDisposable) | undefined;
  readonly #sandboxes = new Map<string, Sandbox>();

  /** Opens the runtime, again if need be. */
  async open(options: Partial<OciRuntimeOptions> = {}): Promise<void> {
    await this.#runtime?.[Symbol.asyncDispose]();
    this.#sandboxes.clear();
    this.#runtime =
      guestImage === undefined
        ? await OciRuntime.open({ stateDir, ...options })
        : await MicrovmRuntime.open({
            stateDir,
            guestImage,
            network: options.network ?? {},
            handshakeTimeoutMs: 120_000,
          });
  }

  async close(): Promise<void> {
    await this.#runtime?.[Symbol.asyncDispose]();
  }

  async create(spec: SandboxSpec): Promise<void> {
    await this.#open.create(spec);
  }

  async start(spec: SandboxSpec): Promise<readonly string[]> {
    const sandbox = await this.#open.create(spec);
    await sandbox.start();
    this.#sandboxes.set(spec.id, sandbox);
    return sandbox.addresses();
  }

  /** Runs a sandbox to its end, removes it, and gives what it printed on stdout. */
  async run(spec: SandboxSpec): Promise<string> {
    const sandbox = await this.#open.create(spec);
    await sandbox.start();
    await sandbox.exited;
    const { stdout } = await output(sandbox);
    await sandbox.remove();
    return stdout;
  }

  async output(id: string): Promise<string> {
    return (await output(this.#get(id))).stdout;
  }

  async usage(id: string) {
    return this.#get(id).usage();
  }

  async remove(id: string): Promise<void> {
    const sandbox = this.#get(id);
    await sandbox.stop({ graceMs: 0 });
    await sandbox.remove();
  }

  async removeAll(): Promise<void> {
    for (const record of (await this.#open.list?.()) ?? []) {
      const sandbox = await this.#open.adopt(record);
      await sandbox?.stop({ graceMs: 0 });
      await sandbox?.remove();
    }
  }

  async clean(dryRun: boolean) {
    return (await this.#open.clean?.({ dryRun })) ?? [];
  }

  /** As if it was killed from outside, between two calls. */
  async die(): Promise<void> {
    process.kill(process.pid, 'SIGKILL');
  }

  async check() {
    return this.#open.check();
  }

  async gateway(ports: number[]): Promise<string | undefined> {
    await this.#open.gateway?.allow(ports);
    return this.#open.gateway?.open();
  }

  /** Greets whoever connects. */
  async listen(host: string, port: number, greeting: string): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const server = createServer((socket) => socket.on('error', () => undefined).end(`${greeting}\n`));
    server.once('error', reject).listen(port, host, resolve).unref();
    await promise;
  }

  get #open(): Runtime {
    if (this.#runtime === undefined) throw new Error('The runtime is not open');
    return this.#runtime;
  }

  #get(id: string): Sandbox {
    const sandbox = this.#sandboxes.get(id);
    if (sandbox === undefined) throw new Error(`No sandbox "${id}"`);
    return sandbox;
  }
}

/** Answers calls until nobody makes any more. */
export async function serveCalls(target: object): Promise<never> {
  for await (const line of createInterface(process.stdin)) {
    const { method, params } = JSON.parse(line) as { method: string; params: unknown[] };
    let answer: object;
    try {
      const methods = target as Record<string, (...args: unknown[]) => Promise<unknown>>;
      const result = await methods[method]?.apply(target, params);
      answer = { result };
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      answer = { error: { code, message } };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
  // What was made and never started is left as a kill would leave it.
  process.exit();
}

if (import.meta.filename === process.argv[1]) await serveCalls(new NetworkProcess());
