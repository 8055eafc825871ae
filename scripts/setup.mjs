// Brings a bare machine to the point where the project can run. Plain JavaScript for Node 20 and newer, nothing but
// Node's own modules: this runs before anything is installed. Says nothing when there is nothing to do.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { runToEnd } from './run.mjs';
import { fail, find, installTools, installWithNix, isNix, MORE_FOLDERS, ROOT, run, say } from './system-tools.mjs';

export { ROOT };

const WANTED_NODE = [24, 12];
const NPM_RECORD = 'node_modules/.package-lock.json';
const NPM_NODE = join(ROOT, 'node_modules/.bin/node');
/** What the main job needs of the machine; patchelf for the echo service where there is no nixpkgs. */
export const MAIN_JOB_TOOLS = ['nats-server', 'crun', 'nix', 'patchelf'];
/** The tests run small static programs in sandboxes too, connect sandboxes by bridges, and run virtual machines. */
export const TEST_TOOLS = [
  ...MAIN_JOB_TOOLS,
  'busybox',
  'ip',
  'iptables',
  'portmap',
  'mkfs.erofs',
  ...(process.arch === 'x64' ? ['qemu-system-x86_64'] : []),
];

/**
 * Installs what is missing and returns the Node binary to go on with and the environment for it.
 * Ends the process with one message when something is missing that cannot be installed from here.
 */
export async function setUp(tools) {
  if (process.platform !== 'linux') fail(`nex-nix runs on Linux; this is ${process.platform}`);
  const folders = await installTools(tools);
  await installPackages();
  const node = await nodeBinary();
  const path = [
    join(ROOT, 'node_modules/.bin'),
    ...(node === process.execPath ? [] : [dirname(node)]),
    ...folders,
    process.env.PATH,
    ...MORE_FOLDERS,
  ];
  return { node, env: { ...process.env, PATH: path.filter(Boolean).join(delimiter) } };
}

async function installPackages() {
  const { packages: wanted } = readJson('package-lock.json');
  if (packagesAreInstalled(wanted)) return;
  if (find('npm') === undefined) fail('Cannot find npm, which belongs to Node, on PATH: sudo apt-get install npm');
  say('Installing Node packages (npm ci) …');
  const options = ['--include=dev', '--include=optional', '--no-audit', '--no-fund', '--loglevel=error'];
  // npm leaves out optional packages that are not made for the Node it runs on, so it has to run on the one of later.
  const { version } = wanted[`node_modules/node-linux-${process.arch}`] ?? {};
  const node = isNewEnough() || version === undefined ? undefined : isNix() ? await nixNode() : await npmNode(version);
  const env = { ...process.env, PATH: [node, process.env.PATH].filter(Boolean).join(delimiter) };
  // Told to end, npm first puts everything back, which takes long and is of no use: the next run starts afresh.
  const code = await run('npm', ['ci', ...options], { cwd: ROOT, env, patience: 2_000 });
  if (code !== 0) fail(npmFailed('npm ci', code));
  // npm's Node is made for the usual Linux systems; where it cannot run (NixOS), it must not hide the one that can.
  if (!isRunnable(NPM_NODE)) rmSync(NPM_NODE, { force: true });
}

/** The folder of a Node that npm has fetched into its own cache. */
async function npmNode(version) {
  const output = [];
  const options = ['--yes', `--package=node-linux-${process.arch}@${version}`, '--loglevel=error'];
  // Not here, where what an interrupted installation has left would be taken.
  const code = await runToEnd('npm', ['exec', ...options, '--', 'node', '-p', 'process.execPath'], {
    cwd: '/',
    output,
    patience: 2_000,
  });
  const text = Buffer.concat(output).toString().trim();
  if (code !== 0) fail(`${text}\n${npmFailed('npm exec', code)}`);
  return dirname(text.split('\n').at(-1));
}

function npmFailed(command, code) {
  return `Cannot install the Node packages: "${command}" ended with exit code ${code}. Its messages are above; if they are
about the network, "npm ping" tells whether the registry answers. The next run tries again`;
}

/** Whether node_modules holds what the lock file says. npm writes its record last: an interrupted installation has none. */
function packagesAreInstalled(wanted) {
  if (!existsSync(join(ROOT, NPM_RECORD))) return false;
  const { packages: installed } = readJson(NPM_RECORD);
  const isNeeded = ({ optional, os = [], cpu = [], libc = ['glibc'] }) =>
    !optional || (os.includes('linux') && cpu.includes(process.arch) && libc.includes('glibc'));
  return (
    Object.entries(wanted).every(([path, entry]) => path === '' || path in installed || !isNeeded(entry)) &&
    Object.entries(installed).every(
      ([path, { version, integrity }]) =>
        wanted[path]?.version === version && wanted[path].integrity === integrity && existsSync(join(ROOT, path)),
    )
  );
}

/** The pinned Node out of node_modules, the running one where it is new enough, or one from nixpkgs. */
async function nodeBinary() {
  if (existsSync(NPM_NODE)) return NPM_NODE;
  const target = `../node-linux-${process.arch}/bin/node`;
  // npm 10 makes no link of that name.
  if (isRunnable(join(dirname(NPM_NODE), target))) symlinkSync(target, NPM_NODE);
  if (existsSync(NPM_NODE)) return NPM_NODE;
  if (isNewEnough()) return process.execPath;
  if (isNix()) return join(await nixNode(), 'node');
  return fail(`Cannot go on with Node ${process.versions.node}: Node ${WANTED_NODE.join('.')} or newer is needed, and npm has none that runs on
this machine (${process.arch}). Install it, for instance from https://nodejs.org, and run the command again`);
}

function isRunnable(node) {
  return existsSync(node) && spawnSync(node, ['--version']).status === 0;
}

function isNewEnough() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  return major > WANTED_NODE[0] || (major === WANTED_NODE[0] && minor >= WANTED_NODE[1]);
}

function nixNode() {
  return installWithNix('node', 'nodejs_24');
}

function readJson(path) {
  return JSON.parse(readFileSync(join(ROOT, path), 'utf8'));
}
