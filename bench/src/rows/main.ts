import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Measurement, Row } from '../row.ts';

const ROOT = join(import.meta.dirname, '../../..');
const RUNS = 5;

/** The main job from nothing but an installed machine: a fresh data directory each time, the echo service built before. */
const secondStart: Row = {
  id: 'main.second-start',
  what: 'second npm start -- --once, all installed, fresh data',
  unit: 's',
  wanted: 8,
  async measure(): Promise<Measurement> {
    await start();
    const runs: Run[] = [];
    for (let run = 0; run < RUNS; run++) runs.push(await start());
    const typical = [...runs].sort((a, b) => a.seconds - b.seconds)[Math.floor(RUNS / 2)];
    return { values: runs.map((run) => run.seconds), notes: typical === undefined ? [] : whereItGoes(typical) };
  },
};

interface Run {
  seconds: number;
  steps: { step: string; ms: number }[];
}

async function start(): Promise<Run> {
  const folder = await mkdtemp(join(tmpdir(), 'nex-bench-'));
  try {
    const timings = join(folder, 'timings.json');
    const args = ['start', '--silent', '--', '--once', '--data-dir', join(folder, 'data'), '--timings', timings];
    const begin = performance.now();
    const child = spawn('npm', args, { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] });
    const [code] = (await once(child, 'close')) as [number | null];
    if (code !== 0) throw new Error(`npm start ended with exit code ${code}`);
    const seconds = (performance.now() - begin) / 1_000;
    return { seconds, steps: JSON.parse(await readFile(timings, 'utf8')) as Run['steps'] };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function whereItGoes({ seconds, steps }: Run): string[] {
  return [
    `A run of ${seconds.toFixed(2)} s; services and nix build run side by side:`,
    ...steps.map(({ step, ms }) => `  ${String(ms).padStart(6)} ms  ${step}`),
  ];
}

export const mainRows: readonly Row[] = [secondStart];
