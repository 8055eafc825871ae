// npm run bench: prints one table; --only <id prefix> runs some rows, --json <file> writes them.
import { readFile, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { judge, type Outcome, type Row } from './row.ts';
import { cacheRows } from './rows/cache.ts';
import { cacheManyRows } from './rows/cache-many.ts';
import { cacheHttpRows } from './rows/cache-http.ts';
import { cliRows } from './rows/cli.ts';
import { mainRows } from './rows/main.ts';
import { nixRows } from './rows/nix.ts';
import { nodeRows } from './rows/node.ts';
import { ociFunctionRows } from './rows/oci-function.ts';
import { ociManyRows } from './rows/oci-many.ts';
import { nixPullRows } from './rows/nix-pull.ts';
import { ociStartRows } from './rows/oci-start.ts';
import { vmClaimRows } from './rows/vm-claim.ts';
import { vmDiskRows } from './rows/vm-disk.ts';
import { vmMachineRows } from './rows/vm-machines.ts';

const ROWS: readonly Row[] = [
  ...mainRows,
  ...cliRows,
  ...nixRows,
  ...nixPullRows,
  ...cacheRows,
  ...cacheHttpRows,
  ...cacheManyRows,
  ...nodeRows,
  ...ociStartRows,
  ...ociFunctionRows,
  ...ociManyRows,
  ...vmDiskRows,
  ...vmMachineRows,
  ...vmClaimRows,
];

// The peers are started as anybody starts them.
delete process.env['MALLOC_ARENA_MAX'];
const { values } = parseArgs({ options: { only: { type: 'string', default: '' }, json: { type: 'string' } } });
const rows = ROWS.filter((row) => row.id.startsWith(values.only));
if (rows.length === 0) {
  console.error(`No row begins with "${values.only}"; there are: ${ROWS.map((row) => row.id).join(', ')}`);
  process.exit(2);
}

console.log(`${cpus()[0]?.model ?? 'unknown processor'}, ${cpus().length} cores, Node ${process.versions.node}\n`);
console.log(line(['row', 'value', 'peer', 'ratio', 'wanted', '']));
const outcomes: Outcome[] = [];
const notes: string[] = [];
for (const row of rows) {
  const before = await processorTimes();
  const measurement = await row.measure();
  const outcome = judge(row, measurement);
  outcomes.push(outcome);
  const figure = (value: number | null): string => (value === null ? '' : `${value.toFixed(2)} ${row.unit}`);
  const cells = [
    row.id,
    figure(outcome.value),
    figure(outcome.peerValue),
    outcome.ratio?.toFixed(2) ?? '',
    `≤ ${row.wanted}`,
  ];
  const stolen = stolenSince(before, await processorTimes());
  console.log(line([...cells, outcome.met ? 'met' : 'NOT MET', stolen]));
  notes.push(
    '',
    `${row.id}: ${row.what}${row.peer === undefined ? '' : `, against ${row.peer}`}`,
    ...(measurement.notes ?? []),
  );
}
console.log(notes.join('\n'));
if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(outcomes, undefined, 2)}\n`);

/** Of all processors since the start, in the kernel's ticks: `user nice system idle iowait irq softirq steal`. */
async function processorTimes(): Promise<readonly number[]> {
  const [first = ''] = (await readFile('/proc/stat', 'utf8')).split('\n', 1);
  return first.split(/\s+/).slice(1, 9).map(Number);
}

/** A row that the host has taken much time from says little. */
function stolenSince(before: readonly number[], now: readonly number[]): string {
  const spent = now.map((ticks, index) => ticks - (before[index] ?? 0));
  const share = (100 * (spent[7] ?? 0)) / spent.reduce((sum, ticks) => sum + ticks, 0);
  return share < 1 ? '' : `(${share.toFixed(0)} % of the time stolen)`;
}

function line(cells: readonly string[]): string {
  const widths = [24, 14, 14, 8, 10, 8, 0];
  return cells
    .map((cell, index) => cell.padEnd(widths[index] ?? 0))
    .join(' ')
    .trimEnd();
}
