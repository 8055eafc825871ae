import { stripVTControlCharacters } from 'node:util';
import type { DevStatus, ServiceStatus } from '@nex-nix/devenv';
import { describe, expect, it } from 'vitest';
import { frame, type FrameSize } from './frame.ts';
import { inColour, noColour, type Paint } from './service-style.ts';
import { type Key, ViewState } from './view-state.ts';

const SINCE = '2026-01-31T12:00:00Z';

function service(name: ServiceStatus['name'], more: Partial<ServiceStatus> = {}): ServiceStatus {
  return { name, state: 'ready', since: SINCE, restarts: 0, ...more };
}

const STATUS: DevStatus = {
  dataDir: '/srv/data',
  pid: 7,
  environment: {},
  services: [
    service('nats', { pid: 101, url: 'nats://127.0.0.1:4222', lastLine: 'Server is ready' }),
    service('accounts', { state: 'done' }),
    service('cache', { state: 'starting', pid: 103, reason: 'waits for its port' }),
    service('node', { state: 'restarting', restarts: 3, reason: 'ended with SIGKILL' }),
  ],
};

function stateOf(status: DevStatus = STATUS, ...keys: string[]): ViewState {
  const state = new ViewState();
  state.status = status;
  for (const sequence of keys) state.press(keyOf(sequence));
  return state;
}

function keyOf(text: string): Key {
  return text.length === 1 ? { name: text, sequence: text } : { name: text };
}

const USE = () => ['first line', 'second line'];

function draw(state: ViewState, size: Partial<FrameSize> = {}, paint: Paint = noColour): string[] {
  return frame(state, { columns: 100, rows: 24, ...size }, { paint, use: USE });
}

describe('frame()', () => {
  it('shows each service with state, process, address, restarts, and its last line or what is wrong', () => {
    const lines = draw(stateOf());
    expect(lines[0]).toMatch(/^nex dev {2}\/srv\/data +2 of 4 ready$/);
    expect(lines[2]).toMatch(/^▸ 1 nats +ready +101 +nats:\/\/127.0.0.1:4222 +0 +Server is ready$/);
    expect(lines[3]).toMatch(/^ {2}2 accounts +done/);
    expect(lines[4]).toMatch(/^ {2}3 cache +starting +103 .*waits for its port$/);
    expect(lines[5]).toMatch(/^ {2}4 node +restarting .* 3 +ended with SIGKILL$/);
  });

  it('fills every terminal exactly, and no line is wider than it, with and without colours', () => {
    const state = stateOf();
    for (let i = 0; i < 50; i++) add(state, `line ${i} of 世界 ${'x'.repeat(i * 3)}`);
    for (const keys of [[], ['?'], ['i'], ['f']]) {
      for (const key of keys) state.press(keyOf(key));
      for (const columns of [1, 8, 20, 45, 60, 80, 200]) {
        for (const rows of [1, 2, 4, 5, 7, 10, 24]) {
          for (const paint of [noColour, inColour]) {
            const lines = draw(state, { columns, rows }, paint);
            expect(lines, `${columns}x${rows}`).toHaveLength(rows);
            for (const line of lines) expect(widthOf(line), `${columns}x${rows}: ${line}`).toBeLessThanOrEqual(columns);
          }
        }
      }
    }
  });

  it('in a narrow terminal keeps what a service is called, how it is and where', () => {
    const [line] = draw(stateOf(), { columns: 48, rows: 4 });
    expect(line?.trimEnd()).toBe('▸ 1 nats     ready      nats://127.0.0.1:4222');
  });

  it('in a terminal with fewer rows than services shows the selected one', () => {
    expect(draw(stateOf(STATUS, '4'), { rows: 2 })[1]).toMatch(/^▸ 4 node/);
    expect(draw(stateOf(STATUS, '1'), { rows: 1 })[0]).toMatch(/^▸ 1 nats/);
  });

  it('shows the last lines of all services, or of the one that is followed', () => {
    const state = stateOf();
    for (let i = 0; i < 3_000; i++) add(state, `line ${i}`, i % 2 === 0 ? 'nats' : 'cache');
    expect(draw(state).at(-2)).toMatch(/cache +│ line 2999$/);
    state.press(keyOf('f'));
    const lines = draw(state);
    expect(lines.at(-2)).toMatch(/nats +│ line 2998$/);
    expect(lines.join('\n')).not.toMatch(/cache +│/);
    expect(lines.join('\n')).toContain('log of nats');
    state.press(keyOf('3'));
    expect(draw(state).at(-2)).toMatch(/cache +│ line 2999$/);
    state.press(keyOf('return'));
    expect(draw(state).at(-3)).toMatch(/nats +│ line 2998$/);
  });

  it('lets nothing of what services print act on the terminal', () => {
    const evil = '\u001B]0;title\u0007\u001B[2J\u009B1mtext\r\u202E';
    const services = [service('nats', { lastLine: evil }), service('cache', { state: 'failed', reason: evil })];
    const state = stateOf({ ...STATUS, services });
    add(state, evil);
    const text = draw(state).join('');
    expect(text).toContain('text');
    expect(text).not.toMatch(/[\p{Cc}\u202E]/u);
  });

  it('says what it waits for while it stops', () => {
    const state = stateOf();
    state.quitting = true;
    expect(draw(state).at(-1)).toBe('Stopping … waiting for node, cache, nats');
  });

  it('without a status yet is an empty page', () => {
    const lines = frame(new ViewState(), { columns: 40, rows: 10 }, { paint: noColour, use: USE });
    expect(lines).toHaveLength(10);
    expect(lines[0]).toMatch(/0 of 0 ready$/);
  });
});

describe('ViewState', () => {
  it.each([
    [['down'], 'accounts'],
    [['j', 'j', 'k'], 'accounts'],
    [['up'], 'nats'],
    [['4', 'down'], 'node'],
    [['9'], 'nats'],
  ])('after %j selects %s', (keys, name) => expect(stateOf(STATUS, ...keys).selected?.name).toBe(name));

  it('asks for what it cannot do itself', () => {
    const state = stateOf(STATUS, '3');
    expect(state.press(keyOf('r'))).toEqual({ type: 'restart', service: 'cache' });
    expect(state.press(keyOf('q'))).toEqual({ type: 'quit' });
    expect(state.press({ name: 'c', sequence: '\u0003', ctrl: true })).toEqual({ type: 'quit' });
    expect(state.press({ name: 'r', sequence: '\u0012', ctrl: true })).toBeUndefined();
    expect(new ViewState().press(keyOf('r'))).toBeUndefined();
  });

  it('turns pages, and escape turns back', () => {
    const state = stateOf();
    state.press({ sequence: '?' });
    expect(draw(state).join('\n')).toContain('restart it');
    state.press(keyOf('i'));
    expect(draw(state).join('\n')).toContain('second line');
    state.press(keyOf('escape'));
    expect(state.page).toBe('log');
  });
});

function add(state: ViewState, text: string, name: ServiceStatus['name'] = 'nats'): void {
  state.add({ time: SINCE, service: name, source: 'stdout', text });
}

function widthOf(line: string): number {
  const text = stripVTControlCharacters(line);
  return text.length + (text.match(/[世界]/g) ?? []).length;
}
