import type { ServiceStatus } from '@nex-nix/devenv';
import { colourOfState, isDown, isUp, logLine, type Paint } from './service-style.ts';
import { clip, fit, plainText, wrap } from './terminal-text.ts';
import type { ViewState } from './view-state.ts';

export interface FrameSize {
  readonly columns: number;
  readonly rows: number;
}

interface Column {
  readonly head: string;
  /** 0: all that is left. */
  readonly width: number;
  /** The columns of the lowest rank stay when the terminal is narrow. */
  readonly rank: number;
  readonly cell: (service: ServiceStatus) => string;
}

/** In the order in which they are shown. */
const COLUMNS: readonly Column[] = [
  { head: 'SERVICE', width: 9, rank: 0, cell: ({ name }) => name },
  { head: 'STATE', width: 11, rank: 0, cell: ({ state }) => state },
  { head: 'PID', width: 8, rank: 2, cell: ({ pid }) => (pid === undefined ? '' : String(pid)) },
  { head: 'WHERE', width: 23, rank: 1, cell: ({ url }) => url ?? '' },
  { head: 'RESTARTS', width: 9, rank: 3, cell: ({ restarts }) => String(restarts) },
  { head: 'LAST LINE', width: 0, rank: 4, cell: (service) => lineOf(service) },
];

/** Before the columns: which one is selected, and the key that selects it. */
const MARGIN = 4;
/** Below that, the last column is not worth its head. */
const LEAST_COLUMNS = 10;

const KEYS = [
  ['j k ↑ ↓ 1 2 …', 'select a service'],
  ['r', 'restart it'],
  ['f Enter', 'only its log; again: of all'],
  ['i', 'how to use what runs here'],
  ['?', 'this page'],
  ['q Ctrl-C', 'stop all and quit'],
] as const;

/** What the view looks like in a terminal of that size: as many lines as it has rows, none wider than it is. */
export function frame(
  state: ViewState,
  { columns, rows }: FrameSize,
  { paint, use }: { paint: Paint; use: (state: ViewState) => readonly string[] },
): string[] {
  const services = serviceRows(state, { columns, rows }, paint);
  // What is worth the most comes first: the services, what is being done, the log, then titles.
  let left = rows - services.length;
  const foot = left > 0 ? [footer(state, columns, paint)] : [];
  left -= foot.length;
  const head =
    left >= 6
      ? [
          paint(
            'bold',
            cells(columns, '', ({ head: text }) => text),
          ),
        ]
      : [];
  const title = left >= 5 ? [titleLine(state, columns, paint)] : [];
  left -= head.length + title.length;
  const rule = left >= 2 ? [paint('gray', ruleLine(state, columns))] : [];
  left -= rule.length;
  const body = bodyLines(state, { columns, rows: left }, { paint, use });
  const blank = Array.from({ length: left - body.length }, () => '');
  return [...title, ...head, ...services, ...rule, ...body, ...blank, ...foot];
}

function serviceRows(state: ViewState, { columns, rows }: FrameSize, paint: Paint): string[] {
  const { services, selected } = state;
  const at = services.findIndex((service) => service === selected);
  // In a terminal with fewer rows than services, those around the selected one.
  const from = Math.max(0, Math.min(at, services.length - rows));
  return services.slice(from, from + rows).map((service, index) => {
    const marker = `${service === selected ? '▸' : ' '} ${from + index + 1} `;
    return cells(
      columns,
      marker,
      (column) => plainText(column.cell(service)),
      (column, text) => {
        if (column.head === 'STATE') return paint(colourOfState(service.state), text);
        return column.head === 'SERVICE' && service === selected ? paint('bold', text) : text;
      },
    );
  });
}

/** One line of the table: what fits of it. */
function cells(
  columns: number,
  margin: string,
  text: (column: Column) => string,
  painted: (column: Column, text: string) => string = (_column, shown) => shown,
): string {
  let left = columns - MARGIN;
  const widths = new Map<Column, number>();
  for (const column of COLUMNS.toSorted((a, b) => a.rank - b.rank)) {
    const width = column.width === 0 ? left : column.width;
    // The first two are shown as far as they fit: nothing else tells what a row is about.
    const wanted = column.rank === 0 ? 1 : column.width === 0 ? LEAST_COLUMNS : width;
    if (left < wanted) break;
    widths.set(column, Math.min(width, left));
    left -= Math.min(width, left);
  }
  const shown = COLUMNS.flatMap((column) => {
    const width = widths.get(column);
    if (width === undefined) return [];
    // A space ends what fills its column.
    return painted(column, column.width === 0 ? clip(text(column), width) : `${fit(text(column), width - 1)} `);
  });
  return fit(margin, Math.min(MARGIN, columns)) + shown.join('');
}

/** Why a service is not up; of one that is, what it said last. */
function lineOf(service: ServiceStatus): string {
  const { reason, lastLine } = service;
  return (isUp(service) ? lastLine : (reason ?? lastLine)) ?? '';
}

function titleLine(state: ViewState, columns: number, paint: Paint): string {
  const { services, status } = state;
  const up = services.filter(isUp).length;
  const count = `${up} of ${services.length} ready`;
  const left = fit(`nex dev  ${plainText(status?.dataDir ?? '')}`, Math.max(0, columns - count.length - 1));
  const all = up === services.length;
  return columns > count.length
    ? `${paint('bold', left)} ${paint(all ? 'green' : 'yellow', count)}`
    : clip(left, columns);
}

function ruleLine({ page, followed }: ViewState, columns: number): string {
  const log = followed === undefined ? 'log of all' : `log of ${followed}`;
  const what = { log, help: 'keys', use: 'in another terminal' }[page];
  return clip(`── ${what} ${'─'.repeat(columns)}`, columns + 1).slice(0, columns);
}

function bodyLines(
  state: ViewState,
  { columns, rows }: FrameSize,
  { paint, use }: { paint: Paint; use: (state: ViewState) => readonly string[] },
): string[] {
  if (rows < 1) return [];
  if (state.page === 'help')
    return KEYS.map(([keys, what]) => clip(`  ${fit(keys, 15)}${what}`, columns)).slice(0, rows);
  if (state.page === 'use')
    return use(state)
      .flatMap((line) => wrap(plainText(line), columns))
      .map((line) => clip(line, columns))
      .slice(0, rows);
  return state.lastEntries(rows).map((entry) => logLine(entry, paint, columns));
}

function footer(state: ViewState, columns: number, paint: Paint): string {
  if (state.quitting) return paint('yellow', clip(stopping(state), columns));
  if (state.notice !== undefined) return paint('yellow', clip(plainText(state.notice), columns));
  const { followed, selected } = state;
  const follow = followed === undefined ? `only ${selected?.name ?? 'one'}` : 'all';
  return clip(`↑↓ select  r restart  f log of ${follow}  i use  ? help  q quit`, columns);
}

function stopping({ services }: ViewState): string {
  const waited = services.filter((service) => !isDown(service)).map(({ name }) => name);
  return waited.length === 0 ? 'Stopped' : `Stopping … waiting for ${waited.toReversed().join(', ')}`;
}
