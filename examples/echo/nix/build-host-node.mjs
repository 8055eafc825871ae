// Builder of host-node.nix. `step` says which of its packages is made.
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readdirSync } from 'node:fs';

const { out, step, host, hostNode, glibc, gccLibs, loader } = process.env;

/** What belongs to the C library: these load each other by themselves once the first is found. */
const GLIBC = /^(?:ld-linux.*|lib(?:c|m|mvec|dl|pthread|rt|resolv|util|anl|nss_\w+))\.so\.\d+$/;

const steps = {
  glibc() {
    copyLibraries((name) => GLIBC.test(name));
  },

  gccLibs() {
    for (const file of copyLibraries((name) => !GLIBC.test(name)))
      patch(file, '--set-rpath', `${glibc}/lib:${out}/lib`);
  },

  nodejs() {
    mkdirSync(`${out}/bin`, { recursive: true });
    const node = `${out}/bin/node`;
    copyFileSync(hostNode, node);
    // RPATH and not RUNPATH: it also counts for what the libraries load in turn, and comes before LD_LIBRARY_PATH.
    patch(
      node,
      '--set-interpreter',
      `${glibc}/lib/${loader}`,
      '--force-rpath',
      '--set-rpath',
      `${glibc}/lib:${gccLibs}/lib`,
    );
    execFileSync(node, ['--version']);
  },
};

steps[step]();

function copyLibraries(wanted) {
  mkdirSync(`${out}/lib`, { recursive: true });
  const names = readdirSync(`${host}/lib`).filter(wanted);
  for (const name of names) {
    copyFileSync(`${host}/lib/${name}`, `${out}/lib/${name}`);
    chmodSync(`${out}/lib/${name}`, 0o555);
  }
  return names.map((name) => `${out}/lib/${name}`);
}

function patch(file, ...changes) {
  chmodSync(file, 0o755);
  execFileSync(`${host}/lib/${process.env.loader}`, [
    '--library-path',
    `${host}/lib`,
    `${host}/bin/patchelf`,
    ...changes,
    file,
  ]);
  chmodSync(file, 0o555);
}
