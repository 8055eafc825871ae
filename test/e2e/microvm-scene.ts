/**
 * Run in a network namespace of its own: a NATS server, a node with a configuration file of Nex 0.1.5, and the echo service
 * in a virtual machine, whose node is killed. Arguments: guest image, store path of the echo service. Prints what happened,
 * as JSON.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { MicrovmRuntime } from '@nex-nix/sandbox';
import { type RunningProcess, startNatsServer, tempDir, waitFor } from '@nex-nix/test-kit';
import { findTraces } from './leftovers.ts';
import { runNex, startNex } from './nex.ts';

const [guestImage = '', storePath = ''] = process.argv.slice(2);
const run = promisify(execFile);

await using folder = await tempDir('nex-vm-e2e-');
await using server = await startNatsServer();
const config = join(folder.path, 'config.json');
await writeFile(
  config,
  JSON.stringify({
    default_resource_dir: guestImage,
    machine_pool_size: 1,
    cni: { network_name: 'fcnet', interface_name: 'veth0' },
    machine_template: { vcpu_count: 1, memsize_mib: 256 },
    tags: { simple: 'true' },
    workload_types: ['elf'],
  }),
);
const nex = ['-s', server.url, '--json'];
const stateDir = join(folder.path, 'node');
const up = [
  '--config',
  config,
  'node',
  'up',
  '--state-dir',
  stateDir,
  '--accel',
  'tcg',
  '--machine-timeout',
  '2m',
  '--retain',
];

await using stack = new AsyncDisposableStack();
stack.defer(async () => {
  const machines = join(stateDir, 'machines');
  if (!existsSync(machines)) return;
  await using runtime = await MicrovmRuntime.open({ stateDir: machines });
  for (const record of await runtime.list()) {
    const sandbox = await runtime.adopt(record);
    await sandbox?.stop({ graceMs: 0 });
    await sandbox?.remove();
  }
});
/** What a node says that has a machine ready. */
const READY = ['nex node ready', 'Adding new VM to warm pool'];
const startNode = async (): Promise<RunningProcess> => {
  const node = stack.use(startNex([...nex, ...up]));
  let ended = false;
  void node.exited.then(() => (ended = true));
  const isReady = () => ended || READY.every((line) => node.output().includes(line));
  await waitFor('the node', isReady, { timeout: 120_000 }).catch(() => (ended = true));
  if (ended) throw new Error(`There is no node with a machine in its pool:\n${node.output()}`);
  return node;
};
/** The lines of a node's log. */
const linesOf = (output: string) =>
  output
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Record<string, unknown>);
const command = async <T>(...args: string[]): Promise<T> => {
  const { code, stdout, stderr } = await runNex([...nex, ...args]);
  if (code !== 0) throw new Error(`nex ${args.join(' ')}: ${stderr}${stdout}`);
  return JSON.parse(stdout) as T;
};

const nc = await server.connect();
// It runs once it answers: without KVM that takes Node some seconds.
const options = ['--memory', '192MiB', '--health', 'nats:svc.echo', '--health-interval', '1s', '--start-timeout', '2m'];
const first = await startNode();
const { id } = await command<{ id: string }>('devrun', storePath, ...options);
const reply = (await nc.request('svc.echo', 'hello', { timeout: 5_000 })).string();
const logged = async () => (await runNex(['-s', server.url, 'logs', id])).stdout;
const said = await waitFor(
  'its first line',
  async () => /EchoService .* ready on svc\.echo at (\S+)/.exec(await logged())?.[1],
);
const info = await command<{ metadata: Record<string, string> }>('workload', 'info', id);

first.kill('SIGKILL');
await first.exited;
type Leftovers = { leftovers: { name: string }[] };
const { leftovers } = await command<Leftovers>('clean', '--dry-run', '--state-dir', stateDir);
const node = await startNode();
const again = await waitFor('an answer after the restart', async () =>
  nc.request('svc.echo', 'again', { timeout: 2_000 }).then(
    (message) => message.string(),
    () => undefined,
  ),
);
const [adopted] = (await command<{ id: string; workload_state: string }[][]>('workload', 'list')).flat();
await command('workload', 'stop', id);
const stopping = (await logged()).includes('EchoService stopping on SIGTERM');
node.kill('SIGTERM');
const { code } = await node.exited;

const { processes, mounts, cgroups } = await findTraces([stateDir]);
const { stdout: links } = await run('ip', ['-o', 'link']);
const { stdout: rules } = await run('iptables-save');
process.stdout.write(
  `${JSON.stringify({
    reply,
    said,
    sandbox: info.metadata['sandbox'],
    // Whoever else runs tests on this machine may have left something too.
    leftovers: leftovers.flatMap(({ name }) => (name.startsWith(stateDir) ? dirname(name).slice(stateDir.length) : [])),
    again,
    adopted: adopted?.id === id ? adopted.workload_state : undefined,
    stopping,
    code,
    left: {
      processes,
      mounts,
      cgroups,
      links: links.split('\n').filter((line) => line !== '' && !/^\d+: lo:/.test(line)),
      rules: rules.split('\n').filter((line) => /nex/i.test(line)),
    },
    lines: linesOf(first.output()),
  })}\n`,
);
