import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { basename, delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import type { SandboxSpec } from '@nex-nix/sandbox';
import { CNI_FOLDERS, findTool, tempDir } from '@nex-nix/test-kit';
import { BUSYBOX, BUSYBOX_PATH, TOOLS } from './bed.ts';
import type { NetworkProcess } from './network-process.ts';

const run = promisify(execFile);

export const NETWORK_TOOLS = [...TOOLS, 'ip', 'iptables', 'nsenter', 'unshare', 'host-local', 'portmap', 'ptp'];

/** Address of the machine that the test makes, and of one beside it. */
export const MACHINE = '192.0.2.1';
export const OUTSIDE = '192.0.2.2';
/** Where clouds tell about the machine. */
export const METADATA = '169.254.169.254';

/**
 * A network namespace that lasts as long as this process, with a `/run` of its own. That covers one where `ip netns` had
 * been at work, as it does on a machine where somebody used that.
 */
export async function openNamespace(): Promise<ChildProcess> {
  const used = 'mount -t tmpfs tmpfs /run && mkdir /run/netns && mount --bind /run/netns /run/netns';
  const script = `${used} && mount -t tmpfs tmpfs /run && ip link set lo up && echo && exec cat`;
  const holder = spawn('unshare', ['--net', '--mount', '--propagation', 'private', 'sh', '-c', script]);
  await once(holder.stdout, 'data');
  return holder;
}

/** Runs a command in a namespace. */
export async function runIn({ pid }: ChildProcess, command: string): Promise<string> {
  const { stdout } = await run('nsenter', [`--target=${pid}`, '--net', '--mount', 'sh', '-ec', command]);
  return stdout;
}

export type Remote<T> = {
  [K in keyof T]: T[K] extends (...args: infer A) => Promise<infer R> ? (...args: A) => Promise<R> : never;
};

/** A process with a runtime in a namespace: calls go there, one at a time. */
function startRemote(namespace: ChildProcess, place: readonly string[], environment: Record<string, string> = {}) {
  return startCalls<NetworkProcess>(namespace, ['network-process.ts', ...place], environment);
}

/** A process in a namespace that takes calls as `network-process.ts` does: file of this folder, and its arguments. */
export function startCalls<T>(
  namespace: ChildProcess,
  [file = '', ...rest]: readonly string[],
  environment: Record<string, string> = {},
) {
  const script = join(import.meta.dirname, file);
  const command = [process.execPath, '--conditions=nexsrc', script, ...rest];
  // Not by the PATH that the process gets: a test may have its own commands there.
  const child = spawn(findTool('nsenter') ?? 'nsenter', [`--target=${namespace.pid}`, '--net', '--mount', ...command], {
    env: { ...process.env, ...environment },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  let last: Promise<unknown> = Promise.resolve();
  const call = (method: string, params: unknown[]) => {
    const answer = last.then(async () => {
      child.stdin.write(`${JSON.stringify({ method, params })}\n`);
      const { value, done } = await lines.next();
      if (done === true) throw new Error('the process was killed');
      const { result, error } = JSON.parse(value) as { result?: unknown; error?: { code: string; message: string } };
      if (error !== undefined) throw Object.assign(new Error(error.message), error);
      return result;
    });
    last = answer.catch(() => undefined);
    return answer;
  };
  // What writing to a killed process says, the answer that does not come says too.
  child.stdin.on('error', () => undefined);
  const remote = new Proxy({} as Remote<T>, {
    get:
      (_, method: string) =>
      (...params: unknown[]) =>
        call(method, params),
  });
  const end = async () => {
    child.stdin.end();
    await exited;
  };
  return { remote, end };
}

/**
 * A machine with a runtime, and one beside it that is reached over a cable: both are network namespaces, so nothing of it
 * is on this machine's own network. With a guest image its sandboxes are virtual machines.
 */
export async function openNetworkBed({ guestImage }: { guestImage?: string } = {}) {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(await tempDir('nex-network-'));
  const source = join(dir.path, 'store', 'busybox');
  await mkdir(join(source, 'bin'), { recursive: true });
  await copyFile(findTool('busybox') ?? '', join(source, 'bin', 'busybox'));
  const stateDir = join(dir.path, 'state');
  const machine = stack.adopt(await openNamespace(), (holder) => void holder.kill('SIGKILL'));
  const outside = stack.adopt(await openNamespace(), (holder) => void holder.kill('SIGKILL'));
  await runIn(
    machine,
    `ip link add out0 type veth peer name out0 netns ${outside.pid}
     ip addr add ${MACHINE}/24 dev out0; ip link set out0 up; ip route add ${METADATA} dev out0`,
  );
  await runIn(outside, `ip addr add ${OUTSIDE}/24 dev out0; ip addr add ${METADATA}/32 dev out0; ip link set out0 up`);
  const place = [stateDir, ...(guestImage === undefined ? [] : [guestImage])];
  const { remote, end } = startRemote(machine, place);
  stack.defer(async () => {
    await remote.open();
    await remote.removeAll();
    await remote.close();
    await end();
  });
  const beyond = startRemote(outside, [stateDir]);
  stack.defer(beyond.end);
  await remote.open();
  const owned = stack.move();
  return {
    stateDir,
    path: dir.path,
    machine: remote,
    outside: beyond.remote,
    /** Another process on the machine, which may die. */
    another: (environment: Record<string, string>) => startRemote(machine, place, environment),
    onMachine: (command: string) => runIn(machine, command),
    onOutside: (command: string) => runIn(outside, command),
    spec: (script: string, change: Partial<SandboxSpec> = {}): SandboxSpec => ({
      id: `t-${randomBytes(6).toString('hex')}`,
      closure: [{ storePath: BUSYBOX_PATH, source }],
      program: BUSYBOX,
      argv: ['sh', '-c', script],
      environment: { PATH: '/bin' },
      resources: {},
      network: 'bridge',
      ...change,
    }),
    [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
  };
}

/** A script that prints what greets it at each address, or `-`. */
export function greetings(...addresses: readonly [host: string, port: number][]): string {
  return addresses
    .map(
      ([host, port]) => `echo "${host} ${port} $(${BUSYBOX} nc -w 2 ${host} ${port} 2>/dev/null </dev/null || echo -)"`,
    )
    .join('\n');
}

/** A script that greets whoever connects to a port, for ever. */
export function greeter(port: number, greeting: string): string {
  return `${BUSYBOX} nc -ll -p ${port} -e ${BUSYBOX} echo ${greeting}`;
}

/** All that networks of ours could have left on a machine; shared chains of the plugin `portmap` stay with it. */
export const TRACES = `
  ip -o link | grep -Ev 'lo|out0|ifb' || true
  iptables-save | grep -E 'NEX-|nex-|nex0' || true
  ls /run/netns 2>/dev/null || true
  find /run/nex-nix -type f ! -name lock ! -name 'last_reserved*' ! -path '*/openings/*' 2>/dev/null || true
`;

const COMMANDS = ['ip', 'unshare', 'nsenter', 'iptables-restore'].map((name) => findTool(name) ?? name);
// Not looked for like other tools: `bridge` is a command, too.
const PLUGINS = ['bridge', 'portmap'].map((name) => join(CNI_FOLDERS[0] ?? '', name));

/**
 * Commands and plugins that kill whoever called them, once they have changed something, when it is their turn: they count
 * down in a file. `folder`: where they are put.
 */
export async function makeKillingTools(folder: string) {
  const tools = join(folder, 'tools');
  const counter = join(folder, 'count');
  await mkdir(tools);
  for (const path of [...COMMANDS, ...PLUGINS]) {
    await writeFile(join(tools, basename(path)), killing(path, counter), { mode: 0o755 });
  }
  return {
    /** Has the next process killed after so many steps; gives the variables that it needs. */
    async killAfter(steps: number): Promise<Record<string, string>> {
      await writeFile(counter, `${steps}\n`);
      return { PATH: `${tools}:${process.env['PATH']}`, CNI_PATH: [tools, ...CNI_FOLDERS].join(delimiter) };
    },
  };
}

function killing(path: string, counter: string): string {
  return `#!/bin/sh
read -r parent </proc/$PPID/comm
case "$parent $CNI_COMMAND $*" in sh*|*VERSION*|*show*) exec ${path} "$@" ;; esac
${path} "$@"; status=$?
read -r left <${counter}
echo $((left - 1)) >${counter}
[ "$left" != 0 ] || kill -9 $PPID
exit $status
`;
}
