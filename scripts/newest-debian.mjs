// Newest programs that Debian has, beside the system's own: packages are unpacked, not installed. Only tests need them.
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
import { dirname, join } from 'node:path';
import { runToEnd } from './run.mjs';
import { find, say } from './system-tools.mjs';

const SUITE = 'sid';
const MIRROR = 'http://deb.debian.org/debian';
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
/** Test-kit looks for them here (test/kit/src/tools.ts). */
export const TOOLS = process.env.NEX_TEST_TOOLS ?? join(homedir(), '.cache/nex-nix-tools');

/** Each is unpacked into a folder of its own; the first command says by its version whether the program runs here. */
const PROGRAMS = [
  {
    folder: 'nix-newest',
    what: 'Nix',
    megabytes: 40,
    debian: 'nix-bin',
    binary: 'usr/bin/nix',
    commands: ['nix', 'nix-store', 'nix-hash'],
    libraries: 'nix',
  },
  {
    folder: 'nats-newest',
    what: 'nats-server',
    megabytes: 10,
    debian: 'nats-server',
    binary: 'usr/sbin/nats-server',
    commands: ['nats-server'],
  },
];

/** Unpacks what is absent and can be had; says so where it cannot: the tests that need it are skipped by name. */
export async function installNewestPrograms() {
  const absent = PROGRAMS.filter(({ folder, commands }) => !existsSync(join(TOOLS, folder, 'bin', commands[0])));
  if (absent.length === 0 || !isDebian()) return;
  const work = mkdtempSync(join(tmpdir(), 'nex-newest-'));
  try {
    for (const program of absent) {
      say(`Unpacking the newest ${program.what} of Debian for the tests (${SUITE}, ${program.megabytes} MB) …`);
      const why = await unpackInto(join(work, program.folder), program);
      if (why !== undefined) say(`Cannot get the newest ${program.what}, tests that need it are skipped: ${why}`);
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Returns what went wrong. */
async function unpackInto(work, { folder, debian, binary, commands, libraries }) {
  const { run, failure, isReady } = await openApt(work, SUITE);
  if (!isReady) return failure();
  if ((await run('apt-get', '-qq', 'install', '-y', '--download-only', debian)) !== 0) return failure();
  const root = join(work, 'tool/root');
  const bin = join(work, 'tool/bin');
  mkdirSync(root, { recursive: true });
  mkdirSync(bin);
  const unpack = `for file in "$1"/cache/archives/*.deb; do dpkg-deb -x "$file" "$2" || exit 1; done`;
  if ((await run('sh', '-c', unpack, 'sh', work, root)) !== 0) return failure();
  for (const command of commands) {
    writeFileSync(join(bin, command), wrapper(command, { binary, libraries }));
    chmodSync(join(bin, command), 0o755);
  }
  const { status, stderr } = spawnSync(join(bin, commands[0]), ['--version'], { encoding: 'utf8' });
  if (status !== 0) return `it does not run here: ${stderr.trim()}`;
  const target = join(TOOLS, folder);
  mkdirSync(dirname(target), { recursive: true });
  rmSync(target, { recursive: true, force: true });
  const beside = `${target}.${process.pid}`;
  if ((await run('cp', '-a', join(work, 'tool'), beside)) !== 0) return failure();
  renameSync(beside, target);
  return undefined;
}

/**
 * An apt of its own for one suite, so that nothing of the system changes: it verifies the signature of the archive's index,
 * and by that each package. `run` runs its programs in the folder `work`, what they say is in `output`.
 */
export async function openApt(work, suite) {
  for (const sub of ['state/lists/partial', 'cache/archives/partial']) mkdirSync(join(work, sub), { recursive: true });
  writeFileSync(join(work, 'status'), '');
  writeFileSync(join(work, 'sources.list'), `deb [signed-by=${KEYRING}] ${MIRROR} ${suite} main\n`);
  writeFileSync(
    join(work, 'apt.conf'),
    `Dir::State "${work}/state"; Dir::State::status "${work}/status"; Dir::Cache "${work}/cache";
Dir::Etc::sourcelist "${work}/sources.list"; Dir::Etc::sourceparts "-"; APT::Install-Recommends "false";
APT::Sandbox::User "root";\n`,
  );
  const env = { ...process.env, APT_CONFIG: join(work, 'apt.conf') };
  const output = [];
  const run = (command, ...args) => runToEnd(command, args, { env, output, cwd: work });
  const failure = () => Buffer.concat(output).toString().trim().split('\n').at(-1);
  return { run, failure, output, isReady: (await run('apt-get', '-qq', 'update')) === 0 };
}

/** What is unpacked comes with a C library of its own, which its own loader finds. */
function wrapper(command, { binary, libraries }) {
  const triplet = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' }[process.arch];
  const loader = { x64: 'ld-linux-x86-64.so.2', arm64: 'ld-linux-aarch64.so.1' }[process.arch];
  const path = ['$lib', ...(libraries === undefined ? [] : [`$lib/${libraries}`])].join(':');
  return `#!/bin/sh
root=$(dirname "$(dirname "$(readlink -f "$0")")")/root
lib=$root/usr/lib/${triplet}
exec "$lib/${loader}" --argv0 ${command} --library-path "${path}" "$root/${binary}" "$@"
`;
}

export function isDebian() {
  const file = '/etc/os-release';
  const isIt = existsSync(file) && /^ID=debian$/m.test(readFileSync(file, 'utf8'));
  return isIt && existsSync(KEYRING) && ['apt-get', 'dpkg-deb'].every((tool) => find(tool) !== undefined);
}
