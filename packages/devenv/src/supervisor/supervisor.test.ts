import { waitFor } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import type { ServiceName } from '../dev-controls.ts';
import type { Run, Service } from './service.ts';
import { Supervisor } from './supervisor.ts';

/** A service that ends, and fails to start, when the test says so. */
class Steered implements Service {
  readonly name: ServiceName;
  readonly after: readonly ServiceName[];
  readonly #history: string[];
  starts = 0;
  failure: Error | undefined;
  /** Held back while it is set. */
  gate: Promise<void> | undefined;
  end: (how: string) => void = () => undefined;

  constructor(name: ServiceName, after: readonly ServiceName[], history: string[]) {
    this.name = name;
    this.after = after;
    this.#history = history;
  }

  async start(signal: AbortSignal): Promise<Run> {
    this.starts++;
    this.#history.push(`start ${this.name}`);
    await this.gate;
    signal.throwIfAborted();
    if (this.failure !== undefined) throw this.failure;
    const { promise: ended, resolve } = Promise.withResolvers<string>();
    this.end = resolve;
    return {
      pid: this.starts,
      ended,
      [Symbol.asyncDispose]: async () => {
        this.#history.push(`stop ${this.name}`);
        resolve('SIGTERM');
      },
    };
  }
}

function bed() {
  const history: string[] = [];
  const said: string[] = [];
  const nats = new Steered('nats', [], history);
  const accounts: Service = { name: 'accounts', after: ['nats'], start: async () => void history.push('accounts') };
  const cache = new Steered('cache', ['accounts'], history);
  const node = new Steered('node', ['accounts'], history);
  const supervisor = new Supervisor([nats, accounts, cache, node], {
    say: (service, text) => said.push(`${service} ${text}`),
    changed: () => undefined,
  });
  const status = (name: ServiceName) => supervisor.statuses.find((one) => one.name === name);
  return { history, said, nats, cache, node, supervisor, status };
}

describe('Supervisor', () => {
  it('starts each service after those that it needs, others side by side, and stops in reverse order', async () => {
    const { supervisor, history, cache, status } = bed();
    const gate = Promise.withResolvers<void>();
    cache.gate = gate.promise;
    const starting = supervisor.start(undefined);
    expect(status('node')).toMatchObject({ state: 'waiting', reason: 'waits for accounts' });
    await waitFor('the node', () => status('node')?.state === 'ready');
    expect(status('cache')?.state).toBe('starting');
    gate.resolve();
    await starting;
    expect(history).toEqual(['start nats', 'accounts', 'start cache', 'start node']);
    expect(supervisor.statuses.map(({ state }) => state)).toEqual(['ready', 'done', 'ready', 'ready']);
    await supervisor[Symbol.asyncDispose]();
    expect(history.slice(4).toSorted()).toEqual(['stop cache', 'stop nats', 'stop node']);
    expect(history.at(-1)).toBe('stop nats');
    expect(supervisor.statuses.map(({ state }) => state)).toEqual(['stopped', 'stopped', 'stopped', 'stopped']);
  });

  it('starts again what ends by itself, each time later, and says why', async () => {
    const { supervisor, cache, status, said } = bed();
    await using _ = supervisor;
    await supervisor.start(undefined);
    cache.end('SIGKILL');
    await waitFor('the restart', () => cache.starts === 2 && status('cache')?.state === 'ready');
    cache.failure = new Error('no such luck');
    cache.end('exit code 1');
    await waitFor('the failure', () => said.includes('cache no such luck; starting it again in 400 ms'));
    expect(status('cache')).toMatchObject({ state: 'restarting', restarts: 2 });
    cache.failure = undefined;
    await waitFor('the third', () => status('cache')?.state === 'ready');
    expect(said.filter((text) => text.includes('again'))).toEqual([
      'cache ended with SIGKILL; starting it again in 100 ms',
      'cache ended with exit code 1; starting it again in 200 ms',
      'cache no such luck; starting it again in 400 ms',
    ]);
    expect(status('nats')?.restarts).toBe(0);
  });

  it('restarts on demand without delay or a count, also what waits for its next attempt, and tells what goes wrong', async () => {
    const { supervisor, cache, history, status } = bed();
    await using _ = supervisor;
    await supervisor.start(undefined);
    await supervisor.restart('cache');
    expect(status('cache')).toMatchObject({ state: 'ready', restarts: 0, pid: 2 });
    await supervisor.restart('accounts');
    expect(history.filter((text) => text === 'accounts')).toHaveLength(2);

    cache.failure = new Error('no such luck');
    await expect(supervisor.restart('cache')).rejects.toThrow('no such luck');
    await waitFor('the wait', () => status('cache')?.state === 'restarting');
    cache.failure = undefined;
    await supervisor.restart('cache');
    expect(status('cache')?.state).toBe('ready');
    await expect(supervisor.restart('other' as ServiceName)).rejects.toMatchObject({
      code: 'DEVENV_SERVICE_UNKNOWN',
      message: 'Cannot find the service "other": there are nats, accounts, cache, node',
    });
  });

  it('does not start again what has never been ready: everything is stopped', async () => {
    const { supervisor, cache, node, history, status } = bed();
    cache.failure = new Error('no such luck');
    const gate = Promise.withResolvers<void>();
    node.gate = gate.promise;
    const starting = supervisor.start(undefined);
    starting.catch(() => gate.resolve());
    await waitFor('the failure', () => status('cache')?.state === 'failed');
    gate.resolve();
    await expect(starting).rejects.toThrow('no such luck');
    expect(status('cache')).toMatchObject({ state: 'failed', reason: 'no such luck' });
    expect(['nats', 'accounts', 'node'].map((name) => status(name as ServiceName)?.state)).toEqual(
      Array(3).fill('stopped'),
    );
    expect(cache.starts).toBe(1);
    expect(history.at(-1)).toBe('stop nats');
  });

  it('stops what is just being started again', async () => {
    const { supervisor, cache, status, history } = bed();
    await supervisor.start(undefined);
    const gate = Promise.withResolvers<void>();
    cache.gate = gate.promise;
    cache.end('SIGKILL');
    await waitFor('the attempt', () => cache.starts === 2);
    const stopping = supervisor[Symbol.asyncDispose]();
    gate.resolve();
    await stopping;
    expect(status('cache')?.state).toBe('stopped');
    expect(history.at(-1)).toBe('stop nats');
  });

  it('gives up by a signal while it starts', async () => {
    const { supervisor, cache, status } = bed();
    const gate = Promise.withResolvers<void>();
    cache.gate = gate.promise;
    const stop = new AbortController();
    const starting = supervisor.start(stop.signal);
    await waitFor('the cache', () => status('cache')?.state === 'starting');
    stop.abort(new Error('enough'));
    gate.resolve();
    await expect(starting).rejects.toThrow('enough');
    expect(supervisor.statuses.map(({ state }) => state)).toEqual(Array(4).fill('stopped'));
  });
});
