#!/usr/bin/env node
// Entry of the nex command. Plain JavaScript without static imports, so that an old Node gets a sentence instead of a
// syntax error. In a checkout the TypeScript sources are run; an installed package has them compiled in dist.
const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 24 || (major === 24 && minor < 12)) {
  process.stderr.write(`nex needs Node 24.12 or newer; this is ${process.versions.node} (${process.execPath})\n`);
  process.exit(1);
}

// A node lives long, and NARs are large. Left alone, V8 gives the youngest objects 64 MiB while many workloads start or
// chunks fly by, and keeps them; the limit can be set at the start of a process only, and this takes its place. See
// docs/decisions/0023-operations.md.
const has = (word) => process.argv.includes(word);
const isLarge = (has('node') && has('up')) || (has('cache') && (has('pull') || has('push') || has('serve')));
const isSized = [...process.execArgv, process.env.NODE_OPTIONS ?? ''].some((text) => text.includes('semi-space'));
if (isLarge && !isSized && process.send === undefined && process.execve !== undefined) {
  const options = ['--max-semi-space-size=2', ...process.execArgv];
  process.execve(process.execPath, [process.execPath, ...options, ...process.argv.slice(1)], process.env);
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
