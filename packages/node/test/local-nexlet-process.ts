// A nexlet as a program of its own: node local-nexlet-process.ts MODE, where MODE says how it behaves.
import { spawn } from 'node:child_process';
import { runLocalNexlet } from '@nex-nix/nexlet';
import { memoryNexlet } from './memory-nexlet.ts';

const [, , mode] = process.argv;

// For the test: the whole environment, and a line on each stream.
process.stdout.write(`environment ${JSON.stringify(process.env)}\n`);
process.stderr.write('a complaint\n');

if (mode === 'crash') process.exit(3);
if (mode === 'stubborn') {
  process.on('SIGINT', () => undefined);
  process.on('SIGTERM', () => undefined);
}
if (mode === 'parent') {
  const child = spawn('sleep', ['600'], { stdio: 'ignore' });
  process.stdout.write(`child ${child.pid}\n`);
}

const { definition } = memoryNexlet({ name: 'local', type: 'local' });
const nexlet = await runLocalNexlet(definition);
if (mode !== 'stubborn') {
  process.once('SIGINT', () => void nexlet[Symbol.asyncDispose]().then(() => process.exit(0)));
}
await nexlet.closed;
process.exit(0);
