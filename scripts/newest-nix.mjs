// The newest Nix that Debian has, beside the system's own: its packages are unpacked, not installed. Only tests need it.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { runToEnd } from './run.mjs';
import { find, say } from './system-tools.mjs';

const SUITE = 'sid';
const MIRROR = 'http://deb.debian.org/debian';
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
/** Test-kit looks for it here (test/kit/src/nix.ts). */
const FOLDER = join(process.env.NEX_TEST_TOOLS ?? join(homedir(), '.cache/nex-nix-tools'), 'nix-newest');
const COMMANDS = ['nix', 'nix-store', 'nix-hash'];

/** Unpacks it where it is absent and can be had; says so where it cannot: the tests that need it are skipped by name. */
export async function installNewestNix() {
  if (existsSync(join(FOLDER, 'bin/nix')) || !isDebian()) return;
  say(`Unpacking the newest Nix of Debian for the tests (${SUITE}, 40 MB) …`);
  const work = mkdtempSync(join(tmpdir(), 'nex-nix-newest-'));
  try {
    const why = await unpackInto(work);
    if (why !== undefined) say(`Cannot get the newest Nix, tests that need it are skipped: ${why}`);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** An apt of its own, so that nothing of the system changes. Returns what went wrong. */
async function unpackInto(work) {
  for (const folder of ['state/lists/partial', 'cache/archives/partial']) {
    mkdirSync(join(work, folder), { recursive: true });
  }
  writeFileSync(join(work, 'status'), '');
  writeFileSync(join(work, 'sources.list'), `deb [signed-by=${KEYRING}] ${MIRROR} ${SUITE} main\n`);
  writeFileSync(
    join(work, 'apt.conf'),
    `Dir::State "${work}/state"; Dir::State::status "${work}/status"; Dir::Cache "${work}/cache";
Dir::Etc::sourcelist "${work}/sources.list"; Dir::Etc::sourceparts "-"; APT::Install-Recommends "false";
APT::Sandbox::User "root";\n`,
  );
  const env = { ...process.env, APT_CONFIG: join(work, 'apt.conf') };
  const output = [];
  const run = (command, ...args) => runToEnd(command, args, { env, output });
  const failure = () => Buffer.concat(output).toString().trim().split('\n').at(-1);
  if ((await run('apt-get', '-qq', 'update')) !== 0) return failure();
  if ((await run('apt-get', '-qq', 'install', '-y', '--download-only', 'nix-bin')) !== 0) return failure();
  const root = join(work, 'tool/root');
  const bin = join(work, 'tool/bin');
  mkdirSync(root, { recursive: true });
  mkdirSync(bin);
  const unpack = `for file in "$1"/cache/archives/*.deb; do dpkg-deb -x "$file" "$2" || exit 1; done`;
  if ((await run('sh', '-c', unpack, 'sh', work, root)) !== 0) return failure();
  for (const command of COMMANDS) writeFileSync(join(bin, command), wrapper(command));
  for (const command of COMMANDS) chmodSync(join(bin, command), 0o755);
  const { status, stderr } = spawnSync(join(bin, 'nix'), ['--version'], { encoding: 'utf8' });
  if (status !== 0) return `it does not run here: ${stderr.trim()}`;
  mkdirSync(join(FOLDER, '..'), { recursive: true });
  rmSync(FOLDER, { recursive: true, force: true });
  const beside = `${FOLDER}.${process.pid}`;
  if ((await run('cp', '-a', join(work, 'tool'), beside)) !== 0) return failure();
  renameSync(beside, FOLDER);
  return undefined;
}

/** It comes with a C library of its own, which its own loader finds. */
function wrapper(command) {
  const triplet = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' }[process.arch];
  const loader = { x64: 'ld-linux-x86-64.so.2', arm64: 'ld-linux-aarch64.so.1' }[process.arch];
  return `#!/bin/sh
root=$(dirname "$(dirname "$(readlink -f "$0")")")/root
lib=$root/usr/lib/${triplet}
exec "$lib/${loader}" --argv0 ${command} --library-path "$lib:$lib/nix" "$root/usr/bin/nix" "$@"
`;
}

function isDebian() {
  const file = '/etc/os-release';
  const isIt = existsSync(file) && /^ID=debian$/m.test(readFileSync(file, 'utf8'));
  return isIt && existsSync(KEYRING) && ['apt-get', 'dpkg-deb'].every((tool) => find(tool) !== undefined);
}
