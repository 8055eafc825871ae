// Brings a bare machine to the point where the project can run. Plain JavaScript for Node 20 and newer, nothing but
// Node's own modules: this runs before anything is installed. Says nothing when there is nothing to do.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, statSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

const WANTED_NODE = [24, 12];
const SBIN = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/** Every system tool the project may need: the command looked for, its Debian package, its attribute in nixpkgs. */
const TOOLS = {
  'nats-server': { debian: 'nats-server', nixpkgs: 'nats-server' },
  crun: { debian: 'crun', nixpkgs: 'crun' },
  nix: { debian: 'nix-bin', nixpkgs: 'nix' },
  patchelf: { debian: 'patchelf', nixpkgs: 'patchelf' },
  busybox: { debian: 'busybox-static', nixpkgs: 'busybox' },
};

/** What the main job needs of the machine; patchelf for the echo service where there is no nixpkgs. */
export const MAIN_JOB_TOOLS = ['nats-server', 'crun', 'nix', 'patchelf'];
/** The tests run small static programs in sandboxes too. */
export const TEST_TOOLS = [...MAIN_JOB_TOOLS, 'busybox'];

/**
 * Installs what is missing and returns the Node binary to go on with and the environment for it.
 * Ends the process with one message when something is missing that cannot be installed from here.
 */
export function setUp(tools) {
  if (process.platform !== 'linux') fail(`nex-nix runs on Linux; this is ${process.platform}`);
  installPackages();
  const env = { ...process.env };
  env.PATH = [join(ROOT, 'node_modules/.bin'), ...installTools(tools), env.PATH, ...SBIN]
    .filter(Boolean)
    .join(delimiter);
  return { node: nodeBinary(), env };
}

function installPackages() {
  const lock = join(ROOT, 'package-lock.json');
  const installed = join(ROOT, 'node_modules/.package-lock.json');
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(lock).mtimeMs) return;
  say('Installing Node packages (npm ci) …');
  const result = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: ROOT,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (result.error !== undefined) fail(`Cannot run npm: ${result.error.message}`);
  if (result.status !== 0) fail(`npm ci failed with exit code ${result.status}; its messages are above`);
}

/** The pinned Node out of node_modules, or the running one where it is new enough. */
function nodeBinary() {
  const pinned = join(ROOT, 'node_modules/.bin/node');
  if (existsSync(pinned)) return pinned;
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major > WANTED_NODE[0] || (major === WANTED_NODE[0] && minor >= WANTED_NODE[1])) return process.execPath;
  return fail(
    `This is Node ${process.versions.node} on ${process.arch}; Node ${WANTED_NODE.join('.')} or newer is needed, and npm has none for this processor. Install it and run the command again`,
  );
}

/** Installs the tools that are not on PATH; returns folders to put on PATH for those that do not land there by themselves. */
function installTools(tools) {
  const missing = tools.filter((tool) => find(tool) === undefined);
  if (missing.length === 0) return [];
  if (find('apt-get') !== undefined) {
    installWithApt(missing);
    const still = missing.filter((tool) => find(tool) === undefined);
    if (still.length > 0) fail(`Still missing after the installation: ${still.join(', ')}`);
    return [];
  }
  if (find('nix') !== undefined) return missing.map(installWithNix);
  return fail(
    [`Missing on this machine: ${missing.join(', ')}. Install them with your system's package manager:`]
      .concat(
        missing.map(
          (tool) => `  ${tool}: package ${TOOLS[tool].debian} in Debian and Ubuntu, ${TOOLS[tool].nixpkgs} in nixpkgs`,
        ),
      )
      .join('\n'),
  );
}

function installWithApt(missing) {
  const packages = missing.map((tool) => TOOLS[tool].debian);
  const install = ['apt-get', 'install', '-y', '-qq', '--no-install-recommends', ...packages];
  const sudo = sudoPrefix();
  if (sudo === undefined) {
    fail(
      [`Missing on this machine, and only root can install them:`]
        .concat(missing.map((tool) => `  ${tool}: sudo apt-get install ${TOOLS[tool].debian}`))
        .concat(`All at once: sudo apt-get install ${packages.join(' ')}`)
        .join('\n'),
    );
  }
  say(`Installing ${packages.join(', ')} (apt-get) …`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const run = (argv) => spawnSync(argv[0], argv.slice(1), { env, encoding: 'utf8' });
  let result = run([...sudo, ...install]);
  if (result.status !== 0) {
    // The package lists of a new machine are often absent or old.
    run([...sudo, 'apt-get', 'update', '-qq']);
    result = run([...sudo, ...install]);
  }
  if (result.status !== 0) fail(`apt-get install ${packages.join(' ')} failed:\n${result.stderr}${result.stdout}`);
}

/** `[]` as root, `['sudo']` where sudo works (asking for a password when there is a terminal), undefined otherwise. */
function sudoPrefix() {
  if (process.getuid() === 0) return [];
  if (find('sudo') === undefined) return undefined;
  const interactive = process.stdin.isTTY === true;
  const works = spawnSync('sudo', interactive ? ['-v'] : ['-n', 'true'], { stdio: interactive ? 'inherit' : 'ignore' });
  return works.status === 0 ? ['sudo'] : undefined;
}

/** NixOS and the like: the tool comes from nixpkgs, kept by a link below .data so that it is not collected. */
function installWithNix(tool) {
  const link = join(ROOT, '.data/tools', tool);
  mkdirSync(dirname(link), { recursive: true });
  const bin = join(link, 'bin');
  if (existsSync(join(bin, tool))) return bin;
  say(`Installing ${tool} (nix build nixpkgs#${TOOLS[tool].nixpkgs}) …`);
  const features = ['--extra-experimental-features', 'nix-command flakes'];
  const result = spawnSync('nix', [...features, 'build', `nixpkgs#${TOOLS[tool].nixpkgs}`, '--out-link', link], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (result.status !== 0) fail(`Cannot build nixpkgs#${TOOLS[tool].nixpkgs}; nix's messages are above`);
  return bin;
}

export function find(command) {
  for (const folder of (process.env.PATH ?? '').split(delimiter).concat(SBIN)) {
    if (folder === '') continue;
    try {
      accessSync(join(folder, command), constants.X_OK);
      return join(folder, command);
    } catch {
      continue;
    }
  }
  return undefined;
}

function say(text) {
  process.stderr.write(`${text}\n`);
}

function fail(text) {
  say(text);
  process.exit(1);
}
