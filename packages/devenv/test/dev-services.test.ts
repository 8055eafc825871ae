import { existsSync, readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { type Account, decode, encodeAccount } from '@nats-io/jwt';
import { fromSeed } from '@nats-io/nkeys';
import { type DevControls, type DevEvent, DevServices, type DevServicesOptions } from '@nex-nix/devenv';
import { connectContext, connectNats } from '@nex-nix/nats-context';
import { describeWith, startProcess, tempDir, waitFor } from '@nex-nix/test-kit';
import { afterEach, expect, it, vi } from 'vitest';

const FREE = { port: 0, monitorPort: 0 };

afterEach(() => vi.useRealTimers());

/** Dev services with the events of their start. */
async function start(options: DevServicesOptions) {
  const events: DevEvent[] = [];
  const services = await DevServices.start({ ...FREE, ...options, onEvent: (event) => events.push(event) });
  return { services, events };
}

/** Whether a process runs. One that nobody has waited for yet, a zombie, has no command line any more. */
function isAlive(pid: number): boolean {
  const file = `/proc/${pid}/cmdline`;
  return existsSync(file) && readFileSync(file, 'utf8') !== '';
}

describeWith(['nats-server'], 'DevServices', () => {
  it('started at the same instant on different folders get along', async () => {
    await using first = await tempDir();
    await using second = await tempDir();
    await using stack = new AsyncDisposableStack();
    const [one, two] = await Promise.all([first, second].map((dir) => DevServices.start({ dataDir: dir.path })));
    expect(stack.use(one)?.port).not.toBe(stack.use(two)?.port);
  });

  it('serve every context and user from a fresh folder', async () => {
    await using dir = await tempDir();
    await using stack = new AsyncDisposableStack();
    const { services, events } = await start({ dataDir: dir.path });
    stack.use(services);
    const { configDir } = services;
    const connect = async (context: string) => {
      const nc = await connectNats({ context, configDir });
      stack.defer(() => nc.close());
      return nc;
    };

    const sys = await connect('Sys');
    expect((await sys.request('$SYS.REQ.SERVER.PING')).json()).toMatchObject({ server: { name: 'nex-dev' } });
    expect((await fetch(`${services.monitorUrl}/healthz`)).status).toBe(200);

    const admin = await connect('ExpAdmin');
    expect(await (await jetstreamManager(admin)).getAccountInfo()).toMatchObject({ limits: { max_storage: -1 } });
    await jetstream(admin).publish('$NEX.FEED.default.logs.w1.stdout', 'line');
    await jetstream(admin).publish('$NEX.FEED.default.events.Started', '{}');
    const stream = await (await jetstreamManager(admin)).streams.info('NEX_FEED');
    expect(stream.config).toMatchObject({ max_age: 7 * 86_400e9, max_bytes: 1024 ** 3, discard: 'old' });
    expect(stream.state.messages).toBe(2);

    const node = await connect('ExpNode');
    const echo = await connectContext({ url: services.url, user_jwt: await services.echoServiceJwt() });
    stack.defer(() => echo.close());
    echo.subscribe('svc.echo', { queue: 'q', callback: (_, message) => void message.respond(message.data) });
    echo.subscribe('$SRV.PING', { callback: (_, message) => void message.respond('pong') });
    await echo.flush();
    expect((await node.request('svc.echo', 'hello')).string()).toBe('hello');
    const discovered = node.subscribe('_INBOX.discovered');
    node.publish('$SRV.PING', '', { reply: '_INBOX.discovered' });
    for await (const reply of discovered) {
      if (reply.string() === 'pong') break; // the cache answers as well
    }
    for (const subject of ['svc.echo', '_INBOX.other', '$NEX.FEED.default.logs.x', '$JS.API.INFO']) {
      await expect(echo.request(subject, '')).rejects.toThrow(/Permissions Violation/);
    }

    expect(services.env()).toMatchObject({ XDG_CONFIG_HOME: dir.path, NSC_HOME: join(dir.path, 'nsc') });
    expect(await readFile(services.accountSigningKeySeedFile, 'utf8')).toMatch(/^SA/);
    expect(services.accountPublicKey).toMatch(/^A[A-Z2-7]{55}$/);
    expect(events).toContainEqual({ type: 'account', name: 'Exp', outcome: 'pushed' });
    expect(events).toContainEqual({ type: 'stream', name: 'NEX_FEED', created: true });

    const { pid } = services;
    await stack.disposeAsync();
    await services[Symbol.asyncDispose]();
    expect(isAlive(pid)).toBe(false);
  });

  it('find everything again at the second start, and do not roll a newer account back', async () => {
    await using dir = await tempDir();
    const dataDir = dir.path;
    const publish = async (services: DevServices) => {
      const nc = await connectNats({ context: 'ExpAdmin', configDir: services.configDir });
      await jetstream(nc).publish('$NEX.FEED.default.events.Started', '{}');
      const { state } = await (await jetstreamManager(nc)).streams.info('NEX_FEED');
      await nc.close();
      return state.messages;
    };
    await using stack = new AsyncDisposableStack();
    const first = await start({ dataDir });
    stack.use(first.services);
    const echoJwt = await first.services.echoServiceJwt();
    expect(await publish(first.services)).toBe(1);
    const newer = await pushNewerAccount(first.services);
    await first.services[Symbol.asyncDispose]();

    const second = await start({ dataDir });
    await using services = second.services;
    expect(await publish(services)).toBe(2);
    expect(await services.echoServiceJwt()).toBe(echoJwt);
    expect(services.accountPublicKey).toBe(first.services.accountPublicKey);
    // Contexts that somebody has copied stay valid.
    expect([services.url, services.monitorUrl]).toEqual([first.services.url, first.services.monitorUrl]);
    expect(second.events.filter((event) => 'created' in event && event.created)).toEqual([]);
    expect(second.events).toContainEqual({ type: 'account', name: 'Exp', outcome: 'newer-on-server' });
    expect(await lookUpAccount(services)).toBe(newer);
  });

  it('start a killed nats-server again, on the same port and data', async () => {
    await using dir = await tempDir();
    const { services } = await start({ dataDir: dir.path });
    await using _ = services;
    const nc = await connectNats({ context: 'ExpAdmin', configDir: services.configDir });
    await jetstream(nc).publish('$NEX.FEED.default.events.Started', '{}');
    await nc.close();
    const { pid, url } = services;
    process.kill(pid, 'SIGKILL');
    for await (const { services: found } of services.watch()) {
      if (found[0]?.state === 'ready' && found[0].restarts === 1) break;
    }
    expect(services.pid).not.toBe(pid);
    expect(services.url).toBe(url);
    const said = await Array.fromAsync(services.logs({ services: ['nats'] }), ({ text }) => text);
    expect(said).toContain('ended with SIGKILL; starting it again in 100 ms');
    const again = await connectNats({ context: 'ExpAdmin', configDir: services.configDir });
    expect((await (await jetstreamManager(again)).streams.info('NEX_FEED')).state.messages).toBe(1);
    await again.close();
  });

  it('are refused a second time on the same folder, and take over from a killed process', async () => {
    await using dir = await tempDir();
    const dataDir = join(dir.path, 'data');
    const fixture = join(import.meta.dirname, 'fixtures/hold-dev-services.ts');
    await using holder = startProcess(process.execPath, ['--conditions=nexsrc', fixture, JSON.stringify({ dataDir })]);
    const serverPid = await waitFor('the holder', () => Number(/ready (\d+)/.exec(holder.output())?.[1]), {
      timeout: 25_000,
    });
    using stack = new DisposableStack();
    stack.defer(() => {
      if (isAlive(serverPid)) process.kill(serverPid, 'SIGKILL');
    });
    await expect(start({ dataDir })).rejects.toMatchObject({
      code: 'DEVENV_ALREADY_RUNNING',
      kind: 'refused',
      message: `Cannot start dev services in "${dataDir}": process ${holder.pid} runs them`,
    });
    expect(isAlive(serverPid)).toBe(true);

    holder.kill('SIGKILL');
    await holder.exited;
    const { services, events } = await start({ dataDir });
    await using _ = services;
    expect(events).toContainEqual({ type: 'orphan-ended', service: 'nats', pid: serverPid });
    expect(isAlive(serverPid)).toBe(false);
  });

  it('leave nothing running when they cannot start', async () => {
    await using dir = await tempDir();
    await using running = (await start({ dataDir: join(dir.path, 'a') })).services;
    const dataDir = join(dir.path, 'b');
    await expect(start({ dataDir, port: running.port })).rejects.toMatchObject({
      code: 'DEVENV_PORT_TAKEN',
      message: `Cannot listen on port ${running.port}: it is taken by nats-server (pid ${running.pid})`,
    });

    const failing = join(dir.path, 'failing-server');
    const script =
      '#!/bin/sh\ncase $1 in --version) echo "nats-server: v2.10.0";; *) echo "nats-server: no such luck" >&2; exit 1;; esac\n';
    await writeFile(failing, script, { mode: 0o755 });
    await expect(start({ dataDir, natsServer: failing })).rejects.toMatchObject({
      code: 'DEVENV_NATS_SERVER_FAILED',
      message: 'Cannot start nats-server: no such luck',
    });

    const controller = new AbortController();
    let pid = 0;
    const onControls = async (controls: DevControls) => {
      for await (const { services } of controls.watch()) {
        pid = services[0]?.pid ?? pid;
        if (pid !== 0) controller.abort(new Error('enough'));
      }
    };
    const options = { ...FREE, dataDir, signal: controller.signal };
    const watching: Promise<void>[] = [];
    await expect(
      DevServices.start({ ...options, onControls: (controls) => watching.push(onControls(controls)) }),
    ).rejects.toThrow('enough');
    await Promise.all(watching);
    expect(pid).toBeGreaterThan(0);
    expect(isAlive(pid)).toBe(false);

    const { services } = await start({ dataDir });
    await services[Symbol.asyncDispose]();
  });
});

/** Gives the server a JWT of `Exp` that was made an hour from now, and returns it. */
async function pushNewerAccount(services: DevServices): Promise<string> {
  const jwt = await lookUpAccount(services);
  const claims = decode<Account>(jwt);
  const keyFile = join(services.dataDir, 'nsc/keys/O', claims.iss.slice(1, 3), `${claims.iss}.nk`);
  const signer = fromSeed(await readFile(keyFile));
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_600_000 });
  const newer = await encodeAccount('Exp', claims.sub, claims.nats, { signer });
  vi.useRealTimers();
  const nc = await connectNats({ context: 'Sys', configDir: services.configDir });
  await nc.request('$SYS.REQ.CLAIMS.UPDATE', newer);
  await nc.close();
  return newer;
}

async function lookUpAccount(services: DevServices): Promise<string> {
  const nc = await connectNats({ context: 'Sys', configDir: services.configDir });
  const reply = await nc.request(`$SYS.REQ.ACCOUNT.${services.accountPublicKey}.CLAIMS.LOOKUP`);
  await nc.close();
  return reply.string();
}
