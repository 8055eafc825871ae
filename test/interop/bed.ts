import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DevServices, type OnDevEvent } from '@nex-nix/devenv';
import { formatSecretKey, generateSecretKey } from '@nex-nix/nix';
import { findTool, startProcess, type RunningProcess, tempDir, waitFor } from '@nex-nix/test-kit';
import { startNex } from '../e2e/nex.ts';

export interface ToolRun {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Dev services in a temporary folder, and the real tools pointed at them. */
export class Bed implements AsyncDisposable {
  readonly folder: string;
  #services: DevServices;
  readonly #stack: AsyncDisposableStack;

  private constructor(folder: string, services: DevServices, stack: AsyncDisposableStack) {
    this.folder = folder;
    this.#services = services;
    stack.defer(async () => this.#services[Symbol.asyncDispose]());
    this.#stack = stack;
  }

  static async open(): Promise<Bed> {
    await using stack = new AsyncDisposableStack();
    const { path } = stack.use(await tempDir('nex-interop-'));
    const services = await DevServices.start({ dataDir: join(path, 'data'), port: 0, monitorPort: 0 });
    // All nodes sign with the same one.
    await writeFile(keyIn(path), formatSecretKey(generateSecretKey('interop-1')), { mode: 0o600 });
    return new Bed(path, services, stack.move());
  }

  get services(): DevServices {
    return this.#services;
  }

  /** Ends the services, and starts them again on the same data, at other ports. */
  async restart(onEvent: OnDevEvent = () => undefined): Promise<void> {
    const { dataDir } = this.#services;
    await this.#services[Symbol.asyncDispose]();
    this.#services = await DevServices.start({ dataDir, port: 0, monitorPort: 0, onEvent });
  }

  /** What a user exports to reach the services; HOME too, so that no tool looks or writes into the real one. */
  get env(): Record<string, string> {
    return { HOME: this.folder, XDG_CONFIG_HOME: this.services.configDir, NO_COLOR: '1' };
  }

  /** Runs one of the tools to its end. */
  async run(tool: string, ...args: string[]): Promise<ToolRun> {
    await using process = this.start(tool, ...args);
    const { code } = await process.exited;
    return { code, stdout: process.stdout(), stderr: process.stderr() };
  }

  /** What a tool prints as JSON; throws with all its output when it fails. */
  async json<T>(tool: string, ...args: string[]): Promise<T> {
    const { code, stdout, stderr } = await this.run(tool, ...args);
    if (code !== 0) throw new Error(`${tool} ${args.join(' ')} ended with exit code ${code}:\n${stdout}${stderr}`);
    return JSON.parse(stdout) as T;
  }

  /** Starts one of the tools; whoever calls ends it. */
  start(tool: string, ...args: string[]): RunningProcess {
    const binary = findTool(tool) ?? tool;
    return startProcess(binary, args, { cwd: this.folder, env: { PATH: process.env['PATH'], ...this.env } });
  }

  /** A node of this project, `nex node up` as a process of its own, that makes real credentials. */
  async startNode(name: string): Promise<RunningProcess> {
    const { services, folder } = this;
    const stateDir = join(folder, name);
    const options = ['--node-name', name, '--state-dir', stateDir, '--cache-key-file', keyIn(folder)];
    const args = ['--json', '--context', 'ExpNode', 'node', 'up', ...options];
    const node = startNex(args, {
      ...this.env,
      NEX_ISSUER_SIGNING_KEY: services.accountSigningKeySeedFile,
      NEX_ISSUER_ROOT_ACCOUNT: services.accountPublicKey,
    });
    this.#stack.defer(async () => {
      node.kill('SIGTERM');
      await node.exited;
    });
    await waitFor('the node', () => ready(node), { timeout: 20_000 });
    return node;
  }

  /** Has something closed before the services are. */
  defer(close: () => Promise<void>): void {
    this.#stack.defer(close);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

function keyIn(folder: string): string {
  return join(folder, 'cache.key');
}

function ready(node: RunningProcess): boolean {
  if (node.output().includes('nex node ready')) return true;
  if (/"error"/.test(node.stdout())) throw new Error(`The node ended at start:\n${node.output()}`);
  return false;
}
