import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Measurement, Row } from '../row.ts';

const NEX = join(import.meta.dirname, '../../../packages/cli/bin/nex.js');
const RUNS = 15;

const start: Row = {
  id: 'cli.start',
  what: 'nex --version, from the start of the process to its end',
  unit: 'ms',
  peer: 'node -e 0',
  wanted: 2,
  async measure(): Promise<Measurement> {
    // The first run compiles what later ones find compiled.
    await timed([NEX, '--version']);
    const values: number[] = [];
    const peerValues: number[] = [];
    for (let run = 0; run < RUNS; run++) {
      peerValues.push((await timed(['-e', '0'])).ms);
      values.push((await timed([NEX, '--version'])).ms);
    }
    const help = await timed([NEX, '--help']);
    return { values, peerValues, notes: [`  nex --help, which loads every command: ${help.ms.toFixed(0)} ms`] };
  },
};

const TIMEOUT_S = 1;

const unreachable: Row = {
  id: 'cli.unreachable',
  what: `nex workload list against an address that takes connections and says nothing, with --timeout ${TIMEOUT_S}; exit code 5`,
  unit: 's',
  wanted: 1.5 * TIMEOUT_S,
  async measure(): Promise<Measurement> {
    const sockets: Socket[] = [];
    const silent = createServer((socket) => sockets.push(socket.on('error', () => undefined))).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const url = `nats://127.0.0.1:${(silent.address() as AddressInfo).port}`;
    try {
      const values: number[] = [];
      for (let run = 0; run < 5; run++) {
        const { ms, code } = await timed([NEX, '-s', url, '--timeout', String(TIMEOUT_S), 'workload', 'list']);
        if (code !== 5) throw new Error(`nex ended with exit code ${code}, not 5`);
        values.push(ms / 1_000);
      }
      return { values };
    } finally {
      for (const socket of sockets) socket.destroy();
      silent.close();
    }
  },
};

/** How long a run of this Node takes. */
async function timed(args: readonly string[]): Promise<{ ms: number; code: number | null }> {
  const begin = performance.now();
  const child = spawn(process.execPath, args, { stdio: 'ignore' });
  const [code] = (await once(child, 'exit')) as [number | null];
  return { ms: performance.now() - begin, code };
}

export const cliRows: readonly Row[] = [start, unreachable];
