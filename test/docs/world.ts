import { execFile, spawn } from 'node:child_process';
import { copyFile, lstat, mkdir, readFile, readlink, symlink, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { findTool, tempDir } from '@nex-nix/test-kit';
import { membersOf, removeCgroups } from './members.ts';
import { ROOT } from './pages.ts';
import { Shell } from './shell.ts';

/** Where a reader of the docs is thought to be at home, and to have the checkout. */
export const HOME = '/home/you';
export const CHECKOUT = join(HOME, 'nex-nix');
/** What is on the PATH of a usual machine, and what else pages use, wherever it is. */
const FOLDERS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];
const TOOLS = ['bash', 'git', 'nats-server', 'crun', 'nix', 'ip', 'iptables', 'go', 'nats', 'nsc'];
/** Where Nix has the configuration of the machine: no caches, as there is no network, and builds as whoever runs it. */
const NIX_CONF = { folder: 'nix-conf', text: 'substituters =\nsandbox = false\nbuild-users-group =\n' };
/** What a terminal runs. */
const SHELL = ['bash', '--noprofile', '--norc'];
const NAMESPACES = ['--mount', '--net', '--uts', '--pid'];

/**
 * A machine as a page of the docs finds it: the checkout in a fresh home, every port free, nothing running. It has
 * namespaces of its own, so pages that use the same ports run side by side, and all that a page has left running ends with it.
 * Needs root.
 */
export class World implements AsyncDisposable {
  readonly #stack: AsyncDisposableStack;
  readonly #init: number;
  #shells = 0;

  readonly #more: Readonly<Record<string, string>>;

  private constructor(stack: AsyncDisposableStack, init: number, more: Readonly<Record<string, string>>) {
    this.#more = more;
    this.#stack = stack;
    this.#init = init;
  }

  /** @param more variables for all that runs there */
  static async open(more: Readonly<Record<string, string>> = {}): Promise<World> {
    await using stack = new AsyncDisposableStack();
    const { path } = stack.use(await tempDir('nex-docs-'));
    await copyCheckout(join(path, 'you/nex-nix'));
    await mkdir(join(path, NIX_CONF.folder));
    await writeFile(join(path, NIX_CONF.folder, 'nix.conf'), NIX_CONF.text);
    const script = [join(import.meta.dirname, 'enter-world.sh'), path, ROOT, join(path, 'you/nex-nix')];
    const child = spawn('unshare', [...NAMESPACES, '--fork', '--kill-child', '--mount-proc', 'bash', ...script], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const closed = once(child, 'close');
    let init = -1;
    stack.defer(async () => {
      const members = await membersOf(init);
      child.kill('SIGKILL');
      await closed;
      await removeCgroups(members);
    });
    await Promise.race([
      once(child.stdout, 'data'),
      closed.then(() => Promise.reject(new Error('Cannot make namespaces: unshare has ended, its message is above'))),
    ]);
    const children = await readFile(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8');
    init = Number(children);
    return new World(stack.move(), init, more);
  }

  /** Command lines of all that runs, but for its own terminals. */
  async processes(): Promise<string[]> {
    const members = await membersOf(this.#init);
    const own = [SHELL.join(' '), ''];
    return members
      .filter(({ pid, command }) => pid !== this.#init && !own.includes(command))
      .map(({ command }) => command);
  }

  /** A terminal more on this machine. It ends with the machine. */
  openShell(folder: string): Shell {
    const entry = ['--target', String(this.#init), ...NAMESPACES, ...SHELL];
    const inside = `/run/keyboard-${++this.#shells}`;
    const keyboard = { inside, outside: `/proc/${this.#init}/root${inside}` };
    // Nothing to close: it ends with process 1 of this machine.
    return new Shell('nsenter', entry, { env: { ...environment(), ...this.#more }, folder, keyboard });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** Nothing of who runs the tests, but where programs are. */
function environment(): Record<string, string> {
  const others = TOOLS.flatMap((tool) => findTool(tool) ?? []).map((file) => dirname(file));
  const path = [join(CHECKOUT, 'node_modules/.bin'), ...FOLDERS, dirname(process.execPath), ...others];
  return {
    HOME,
    USER: 'you',
    PATH: [...new Set(path)].join(delimiter),
    LANG: 'C.UTF-8',
    TZ: 'UTC',
    NODE_COMPILE_CACHE: join(dirname(HOME), '.node-compile-cache'),
    NIX_CONF_DIR: join(dirname(HOME), NIX_CONF.folder),
    NO_COLOR: '1',
    TERM: 'dumb',
  };
}

/** All files of the checkout, changed and new ones too, and no other. */
async function copyCheckout(target: string): Promise<void> {
  const list = ['ls-files', '-z', '--cached', '--others', '--exclude-standard'];
  const { stdout } = await promisify(execFile)('git', list, { cwd: ROOT, maxBuffer: 1 << 26 });
  const files = stdout.split('\0').filter(Boolean);
  const folders = new Set(files.map((file) => dirname(join(target, file))));
  await mkdir(join(target, 'node_modules'), { recursive: true });
  for (const folder of folders) await mkdir(folder, { recursive: true });
  await Promise.all(files.map((file) => copyOne(join(ROOT, file), join(target, file))));
}

async function copyOne(source: string, target: string): Promise<void> {
  try {
    const info = await lstat(source);
    if (info.isSymbolicLink()) await symlink(await readlink(source), target);
    else await copyFile(source, target);
  } catch (error) {
    // Deleted, and git was not told yet.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
