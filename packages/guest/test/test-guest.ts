import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { chmod, copyFile, mkdir, symlink, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { findTool, type RunningProcess, startProcess, type TempDir, tempDir, waitFor } from '@nex-nix/test-kit';
import type { GuestConfig } from '../src/agent/guest-config.ts';
import { GuestConnection, type OpenOptions } from '../src/host/guest-connection.ts';
import type { RequestOptions } from '../src/host/requests.ts';
import type { Exec, GuestExit, GuestStorePath, Prepare, Start } from '../src/protocol/messages.ts';

const MAIN = join(import.meta.dirname, '../src/agent/main.ts');
const HASH = 'a'.repeat(32);

/** What the tests of the agent need. */
export const AGENT_TOOLS = ['busybox', 'unshare', 'ip', 'mount'];

/** Store paths of a guest: a static busybox in the image, and what a test adds to the disk. */
export const BUSYBOX = `/nix/store/${HASH}-busybox`;
export const SHELL = `${BUSYBOX}/bin/busybox`;

export const USER = 12_345;

/** The agent as it is in a guest, with namespaces of this machine in place of a machine of its own. */
export class TestGuest implements AsyncDisposable {
  readonly #dir: TempDir;
  readonly #cgroup: string;
  readonly #disk: GuestStorePath[] = [];
  #process: RunningProcess | undefined;

  private constructor(dir: TempDir, cgroup: string) {
    this.#dir = dir;
    this.#cgroup = cgroup;
  }

  static async make(config: Partial<GuestConfig> = {}): Promise<TestGuest> {
    const dir = await tempDir('nex-agent-');
    const guest = new TestGuest(dir, join(cgroupRoot(), `nex-agent-${randomBytes(6).toString('hex')}`));
    await mkdir(join(dir.path, 'image', `${HASH}-busybox`, 'bin'), { recursive: true });
    await copyFile(findTool('busybox') ?? '', guest.#inImage('bin/busybox'));
    await chmod(guest.#inImage('bin/busybox'), 0o755);
    for (const name of ['disk', 'run']) await mkdir(join(dir.path, name));
    const whole: GuestConfig = {
      channel: { listen: join(dir.path, 'agent.sock') },
      imageStore: join(dir.path, 'image'),
      slots: [join(dir.path, 'disk'), join(dir.path, 'missing')],
      tools: {},
      runDir: join(dir.path, 'run/nex'),
      uid: USER,
      gid: USER,
      ...config,
    };
    await writeFile(join(dir.path, 'config.json'), JSON.stringify(whole));
    return guest;
  }

  #inImage(name: string): string {
    return join(this.#dir.path, 'image', `${HASH}-busybox`, name);
  }

  /** Adds a file, or a folder with files in it, or (text beginning with `->`) a link to the disk as a store path. */
  async addToDisk(name: string, content: string | Record<string, string>): Promise<string> {
    const path = join(this.#dir.path, 'disk', `${HASH}-${name}`);
    if (typeof content === 'string') await addFile(path, content);
    else for (const [file, text] of Object.entries(content)) await addFile(join(path, file), text);
    const storePath = `/nix/store/${HASH}-${name}`;
    this.#disk.push({ storePath, from: 'disk' });
    return storePath;
  }

  /** Adds a busybox that would run as root, whoever executes it. */
  async addSetUserId(name: string): Promise<void> {
    await this.addToDisk(name, { busybox: '' });
    const path = join(this.#dir.path, 'disk', `${HASH}-${name}`, 'busybox');
    await copyFile(findTool('busybox') ?? '', path);
    await chmod(path, 0o4755);
  }

  /** Starts the agent. */
  async start(): Promise<void> {
    await mkdir(this.#cgroup);
    const script = `
      echo 0 >"$CGROUP/cgroup.procs"
      mount -t sysfs sysfs /sys && mount -t tmpfs -o mode=755 tmpfs "$DIR/run" || exit
      ip link add nex0 type veth peer name nex1 && ip link set nex1 up || exit
      exec "$NODE" --conditions=nexsrc "$MAIN" "$DIR/config.json"`;
    const { PATH = '' } = process.env;
    const namespaces = ['--mount', '--pid', '--fork', '--mount-proc', '--uts', '--net', '--ipc', '--kill-child'];
    this.#process = startProcess('unshare', [...namespaces, 'sh', '-c', script], {
      env: { PATH, CGROUP: this.#cgroup, DIR: this.#dir.path, NODE: process.execPath, MAIN },
    });
    try {
      await waitFor('the agent to listen', () => existsSync(this.socket));
    } catch (error) {
      throw new Error(this.log, { cause: error });
    }
  }

  /** Where the agent listens. */
  get socket(): string {
    return join(this.#dir.path, 'agent.sock');
  }

  /** What the agent has printed. */
  get log(): string {
    return this.#process?.output() ?? '';
  }

  /** Resolves when the guest is off. */
  async ended(): Promise<void> {
    await this.#process?.exited;
  }

  async connect(options?: OpenOptions): Promise<GuestConnection> {
    return GuestConnection.open(connect(this.socket), options);
  }

  prepareRequest(more: Partial<Prepare> = {}): Prepare {
    const closure: GuestStorePath[] = [{ storePath: BUSYBOX, from: 'image' }, ...this.#disk];
    return { type: 'prepare', closure, tmp: 1 << 20, ...(this.#disk.length > 0 && { disk: 0 }), ...more };
  }

  /** Whether there are processes in its cgroups. */
  get isPopulated(): boolean {
    return readFileSync(join(this.#cgroup, 'cgroup.events'), 'utf8').includes('populated 1');
  }

  /** Whether its cgroups can limit that. */
  hasController(name: string): boolean {
    return readFileSync(join(this.#cgroup, 'cgroup.controllers'), 'utf8').includes(name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process?.[Symbol.asyncDispose]();
    if (existsSync(this.#cgroup)) {
      await waitFor('the processes of the guest to end', () => !this.isPopulated);
      removeCgroups(this.#cgroup);
    }
    await this.#dir[Symbol.asyncDispose]();
  }
}

/** A start of a shell script. */
export function script(text: string, more: Partial<Start> = {}): Start {
  return { type: 'start', program: SHELL, argv: ['sh', '-c', text], environment: {}, limits: {}, ...more };
}

/** One more command, a shell script. */
export function command(text: string, more: Partial<Exec> = {}): Exec {
  return { type: 'exec', program: SHELL, argv: ['sh', '-c', text], environment: {}, ...more };
}

/** Runs a command; what it has printed, as text. */
export async function run(
  connection: GuestConnection,
  request: Exec,
  options?: RequestOptions,
): Promise<{ code: number; output: string }> {
  const { code, output } = await connection.request(request, options);
  return { code, output: Buffer.from(output, 'base64').toString() };
}

export interface Result {
  stdout: string;
  stderr: string;
  exit: GuestExit;
}

/** Reads and acknowledges all output until the program has ended. */
export async function finish(connection: GuestConnection): Promise<Result> {
  const parts = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[] };
  const have = { stdout: 0, stderr: 0 };
  for await (const { stream, position, bytes } of connection.output()) {
    parts[stream].push(bytes);
    have[stream] = position + bytes.length;
    connection.ack(have);
  }
  const text = (chunks: Uint8Array[]) => Buffer.concat(chunks).toString();
  return { stdout: text(parts.stdout), stderr: text(parts.stderr), exit: await connection.exited };
}

async function addFile(path: string, content: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  if (content.startsWith('->')) await symlink(content.slice(2), path);
  else await writeFile(path, content, { mode: content.startsWith('#!') ? 0o755 : 0o644 });
}

function cgroupRoot(): string {
  return /^\S+ (\S+) cgroup2 /m.exec(readFileSync('/proc/mounts', 'utf8'))?.[1] ?? '/sys/fs/cgroup';
}

function removeCgroups(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) removeCgroups(join(folder, entry.name));
  }
  rmdirSync(folder);
}
