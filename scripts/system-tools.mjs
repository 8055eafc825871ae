// Tools of the operating system: finds them, installs the missing ones. Plain JavaScript for Node 20 without dependencies.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runToEnd } from './run.mjs';

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
/** Where tools are that PATH often lacks: those of administrators, those of a Nix installed a moment ago. */
export const MORE_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin', '/nix/var/nix/profiles/default/bin'];
/** Where Debian has the network plugins: not for PATH, as the name of one is that of a command. */
const PLUGIN_FOLDERS = ['/usr/lib/cni'];

/** Every system tool the project may need: the command looked for, its Debian package, its attribute in nixpkgs. */
const TOOLS = {
  'nats-server': { debian: 'nats-server', nixpkgs: 'nats-server' },
  crun: { debian: 'crun', nixpkgs: 'crun' },
  nix: { debian: 'nix-bin', nixpkgs: 'nix' },
  patchelf: { debian: 'patchelf', nixpkgs: 'patchelf' },
  busybox: { debian: 'busybox-static', nixpkgs: 'pkgsStatic.busybox' },
  ip: { debian: 'iproute2', nixpkgs: 'iproute2' },
  iptables: { debian: 'iptables', nixpkgs: 'iptables' },
  // One of the network plugins, the others come with it.
  portmap: { debian: 'containernetworking-plugins', nixpkgs: 'cni-plugins' },
  'qemu-system-x86_64': { debian: 'qemu-system-x86', nixpkgs: 'qemu_kvm' },
  'mkfs.erofs': { debian: 'erofs-utils', nixpkgs: 'erofs-utils' },
};

/** Installs the tools that are not on PATH; returns folders to put on PATH for those that do not land there by themselves. */
export async function installTools(tools) {
  const missing = tools.filter((tool) => find(tool) === undefined);
  if (missing.length === 0) return [];
  if (find('apt-get') !== undefined) {
    await installWithApt(missing);
    const still = missing.filter((tool) => find(tool) === undefined);
    if (still.length > 0) fail(`Still missing after the installation: ${still.join(', ')}`);
    return [];
  }
  if (!isNix()) {
    const packages = missing.map(
      (tool) => `  ${tool}: in Debian and Ubuntu ${TOOLS[tool].debian}, in nixpkgs ${TOOLS[tool].nixpkgs}`,
    );
    fail(
      `Missing on this machine, which has neither apt-get nor nix. Install with its own package manager:\n${packages.join('\n')}`,
    );
  }
  const folders = [];
  for (const tool of missing) folders.push(await installWithNix(tool, TOOLS[tool].nixpkgs));
  return folders;
}

async function installWithApt(missing) {
  const packages = missing.map((tool) => TOOLS[tool].debian);
  const all = `apt-get install ${packages.join(' ')}`;
  const sudo = await sudoPrefix(`To install ${packages.join(', ')}, sudo wants your password`);
  if (sudo === undefined) {
    const lines = missing.map((tool) => `  ${tool.padEnd(12)} sudo apt-get install ${TOOLS[tool].debian}`);
    fail(`Missing on this machine, and only root can install them:\n${lines.join('\n')}
All at once:   sudo ${all}
Or run this command as root, which the sandboxes need anyway`);
  }
  say(`Installing ${packages.join(', ')} (apt-get) …`);
  const output = [];
  const asRoot = (...argv) => {
    const [command, ...args] = [...sudo, ...argv];
    return runToEnd(command, args, { output });
  };
  // Sudo drops the environment, hence env; interrupted, dpkg would leave what only "dpkg --configure -a" repairs. A new
  // machine updates itself when it first starts: that is waited for.
  const careful = [
    '--ignore-signal=INT',
    '--ignore-signal=TERM',
    '--ignore-signal=HUP',
    'DEBIAN_FRONTEND=noninteractive',
  ];
  const apt = (...args) => asRoot('env', ...careful, 'apt-get', '-qq', '-o', 'DPkg::Lock::Timeout=300', ...args);
  const install = () => apt('install', '-y', '--no-install-recommends', ...packages);
  let code = await install();
  if (code !== 0) {
    // The package lists of a new machine are often absent or old. One list of many that cannot be had does no harm.
    output.length = 0;
    await apt('update');
    code = await install();
  }
  if (code !== 0) {
    fail(`${Buffer.concat(output).toString().trim()}
Cannot install ${packages.join(', ')}: apt-get failed, its messages are above. By hand, and with more to read:
  sudo apt-get update && sudo ${all}`);
  }
  // The package starts a server at every boot, which is open to the network and on the port that is wanted here.
  if (missing.includes('nats-server') && find('systemctl') !== undefined) {
    await asRoot('systemctl', 'disable', '--now', 'nats-server');
  }
}

/** Whether this machine installs with Nix: NixOS and the like. */
export function isNix() {
  return find('apt-get') === undefined && find('nix') !== undefined;
}

/** `[]` as root, `['sudo']` where sudo works (asking for a password when there is a terminal), undefined otherwise. */
async function sudoPrefix(reason) {
  if (process.getuid() === 0) return [];
  if (find('sudo') === undefined) return undefined;
  if (spawnSync('sudo', ['-n', 'true']).status === 0) return ['sudo'];
  if (!process.stdin.isTTY) return undefined;
  say(reason);
  return (await run('sudo', ['-v'])) === 0 ? ['sudo'] : undefined;
}

/** NixOS and the like: the tool comes from nixpkgs, kept by a link below .data so that it is not collected. Returns its folder. */
export async function installWithNix(tool, attribute) {
  const link = join(ROOT, '.data/tools', tool);
  const bin = join(link, 'bin');
  if (existsSync(join(bin, tool))) return bin;
  mkdirSync(dirname(link), { recursive: true });
  say(`Installing ${tool} (nix build nixpkgs#${attribute}) …`);
  const features = ['--extra-experimental-features', 'nix-command flakes'];
  const code = await run(find('nix'), [...features, 'build', `nixpkgs#${attribute}`, '--out-link', link]);
  if (code !== 0)
    fail(
      `Cannot install ${tool}: "nix build nixpkgs#${attribute}" ended with exit code ${code}; its messages are above`,
    );
  if (!existsSync(join(bin, tool))) fail(`Cannot install ${tool}: nixpkgs#${attribute} has no bin/${tool}`);
  return bin;
}

/** Runs a command whose messages are shown and whose other output is not. */
export function run(command, args, options) {
  return runToEnd(command, args, { stdio: ['inherit', 'ignore', 'inherit'], ...options });
}

export function find(command) {
  for (const folder of (process.env.PATH ?? '').split(delimiter).concat(MORE_FOLDERS, PLUGIN_FOLDERS)) {
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

export function say(text) {
  process.stderr.write(`${text}\n`);
}

export function fail(text) {
  say(text);
  process.exit(1);
}
