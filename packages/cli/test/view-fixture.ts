// A program that shows the terminal view of services that are only told of; for tests under a terminal. Its service "cache"
// prints a flood of lines when it is restarted, "node" crashes the program.
import { once } from 'node:events';
import type { DevControls, DevLogEntry, DevStatus, ServiceName, ServiceStatus } from '@nex-nix/devenv';
import { inColour } from '../src/dev/service-style.ts';
import { View } from '../src/dev/view.ts';

const FLOOD = 20_000;

const service = (name: ServiceName): ServiceStatus => ({
  name,
  state: 'ready',
  since: new Date().toISOString(),
  restarts: 0,
});
const services = ['nats', 'cache', 'node'] as const;
const status: DevStatus = { dataDir: '/srv/data', pid: process.pid, environment: {}, services: services.map(service) };

let wake = Promise.withResolvers<ServiceName>();

async function* entries(signal: AbortSignal | undefined): AsyncIterable<DevLogEntry> {
  const aborted = signal === undefined ? undefined : once(signal, 'abort').then(() => undefined);
  for (;;) {
    const name = await Promise.race([wake.promise, aborted]);
    if (name === undefined) return;
    wake = Promise.withResolvers();
    for (let i = 1; i <= FLOOD; i++) {
      yield { time: status.services[0]?.since ?? '', service: name, source: 'stdout', text: `line ${i}` };
      if (i % 100 === 0) await new Promise((done) => setImmediate(done));
    }
  }
}

const controls: DevControls = {
  status: () => Promise.resolve(status),
  async *watch(signal) {
    yield status;
    if (signal !== undefined && !signal.aborted) await once(signal, 'abort');
  },
  logs: ({ signal } = {}) => entries(signal),
  restart(name) {
    if (name === 'node') {
      setImmediate(() => {
        throw new Error('the view has crashed');
      });
    }
    if (name === 'cache') wake.resolve(name);
    return name === 'nats' ? Promise.reject(new Error('nats does not start')) : Promise.resolve();
  },
};

const quit = new AbortController();
process.once('SIGTERM', () => quit.abort());
await using view = new View(controls, {
  stdin: process.stdin,
  stdout: process.stdout,
  paint: inColour,
  use: () => ['export A=1'],
  onQuit: () => quit.abort(),
});
await once(quit.signal, 'abort');
view.quit();
