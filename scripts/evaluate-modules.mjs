// Evaluates the modules of NixOS with the module system of nixpkgs:
//   node scripts/evaluate-modules.mjs ../nixpkgs.lib/lib
// where that is the folder `lib` of nixpkgs, or of github.com/nix-community/nixpkgs.lib. Needs Nix, and builds nothing.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

const FILE = join(import.meta.dirname, '../nix/checks/modules/evaluate.nix');

const [folder = '', ...more] = process.argv.slice(2);
if (more.length > 0 || !existsSync(join(folder, 'modules.nix'))) {
  console.error(`Cannot find the module system of nixpkgs in "${folder}": give the folder lib of nixpkgs`);
  process.exit(2);
}
const lib = `import ${JSON.stringify(resolve(folder))}`;
const args = ['--eval', '--strict', '--json', '--arg', 'lib', lib, FILE];
const { status, error, stdout } = spawnSync('nix-instantiate', args, { stdio: ['ignore', 'pipe', 'inherit'] });
if (status !== 0) {
  console.error(`Cannot evaluate the modules: ${error?.message ?? `nix-instantiate ended with ${status}`}`);
  process.exit(1);
}
const { good, wrong } = JSON.parse(stdout);
for (const line of wrong) console.error(`✗ ${line}`);
if (wrong.length > 0) process.exit(1);
console.log(`✓ The modules of NixOS evaluate, and refuse what they should (${Object.keys(good).length} machines)`);
