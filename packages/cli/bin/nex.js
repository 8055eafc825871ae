#!/usr/bin/env node
// Entry of the nex command. Plain JavaScript without static imports, so that an old Node gets a sentence instead of a
// syntax error. In a checkout the TypeScript sources are run; an installed package has them compiled in dist.
const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 24 || (major === 24 && minor < 12)) {
  process.stderr.write(`nex needs Node 24.12 or newer; this is ${process.versions.node} (${process.execPath})\n`);
  process.exit(1);
}

// A node lives long, and NARs are large. Left alone, V8 gives the youngest objects 64 MiB while many workloads start or
// chunks fly by, and keeps them; collects all garbage ten times a second while buffers fly by; and malloc keeps a heap for
// each thread. All that can be told at the start of a process only, and this takes its place. docs/decisions/0023-operations.md
const LARGE = { options: ['--max-semi-space-size=2', '--heap-growing-percent=200'], arenas: '2' };
const has = (word) => process.argv.includes(word);
const isLarge = (has('node') && has('up')) || (has('cache') && (has('pull') || has('push') || has('serve')));
const isSized = [...process.execArgv, process.env.NODE_OPTIONS ?? ''].some((text) => text.includes('semi-space'));
if (isLarge && !isSized && process.send === undefined && process.execve !== undefined) {
  const args = [process.execPath, ...LARGE.options, ...process.execArgv, ...process.argv.slice(1)];
  process.execve(process.execPath, args, { MALLOC_ARENA_MAX: LARGE.arenas, ...process.env });
}
// Not for the programs that this one starts.
if (LARGE.options.every((option) => process.execArgv.includes(option))) delete process.env.MALLOC_ARENA_MAX;

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
