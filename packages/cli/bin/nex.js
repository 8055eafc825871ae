#!/usr/bin/env node
// Entry of the nex command. Plain JavaScript without static imports, so that an old Node gets a sentence instead of a
// syntax error. In a checkout the TypeScript sources are run; an installed package has them compiled in dist.
const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 24 || (major === 24 && minor < 12)) {
  process.stderr.write(`nex needs Node 24.12 or newer; this is ${process.versions.node} (${process.execPath})\n`);
  process.exit(1);
}

const { existsSync } = await import('node:fs');
const { enableCompileCache, registerHooks } = await import('node:module');
enableCompileCache();
const source = new URL('../src/main.ts', import.meta.url);
if (existsSync(source)) {
  registerHooks({
    resolve: (specifier, context, next) =>
      next(specifier, { ...context, conditions: [...context.conditions, 'nexsrc'] }),
  });
  await import(source.href);
} else {
  await import('../dist/main.js');
}
