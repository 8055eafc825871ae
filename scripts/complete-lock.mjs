// node scripts/complete-lock.mjs: to be run after "npm install" where the registry is a mirror with gaps. npm leaves optional
// packages that it cannot find out of package-lock.json, and "npm ci" then refuses the file as out of step.
// Adds an entry for each, with its platform read off its name, so that npm knows to skip it elsewhere.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './setup.mjs';

const LIBC = { gnu: 'glibc', musl: 'musl' };
const file = join(ROOT, 'package-lock.json');
const lock = JSON.parse(readFileSync(file, 'utf8'));

const added = {};
for (const [folder, { optionalDependencies = {}, dev }] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(optionalDependencies)) {
    const nested = `${folder}/node_modules/${name}`;
    if (nested in lock.packages || `node_modules/${name}` in lock.packages) continue;
    if (!/^\d+\.\d+\.\d+/.test(version)) throw new Error(`Cannot complete ${name}@${version}: it is no exact version`);
    added[`node_modules/${name}`] = { version, ...platform(name), ...(dev ? { dev } : {}), optional: true };
  }
}

const packages = Object.fromEntries(
  Object.entries({ ...lock.packages, ...added }).sort(([a], [b]) => a.localeCompare(b, 'en')),
);
writeFileSync(file, `${JSON.stringify({ ...lock, packages }, null, 2)}\n`);
console.log(`package-lock.json: ${Object.keys(added).length} entries added`);

/** `@scope/binding-linux-arm64-musl` and the like. */
function platform(name) {
  if (name.endsWith('wasm32-wasi')) return { cpu: ['wasm32'] };
  const [, os, cpu, abi] =
    /(android|darwin|freebsd|linux|openharmony|win32|sunos|netbsd|openbsd|aix)-(\w+?)(?:-(\w+))?$/.exec(name) ?? [];
  if (os === undefined) throw new Error(`Cannot tell the platform of ${name} from its name`);
  return { cpu: [cpu], ...(abi in LIBC ? { libc: [LIBC[abi]] } : {}), os: [os] };
}
