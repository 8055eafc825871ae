import { once } from 'node:events';
import { chmod, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { encodeAccount, encodeOperator, encodeUser, fmtCreds, type User } from '@nats-io/jwt';
import { createAccount, createOperator, createUser } from '@nats-io/nkeys';
import { connectContext, connectNats, saveContext } from '@nex-nix/nats-context';
import { describeWith, startNatsServer, tempDir, waitFor } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';

const LIMITS = { subs: -1, data: -1, payload: -1, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 };

/** A server in operator mode with one account, and the means to make users of it. */
async function startJwtServer(stack: AsyncDisposableStack) {
  const [operator, account] = [createOperator(), createAccount()];
  const operatorJwt = await encodeOperator('O', operator);
  const accountJwt = await encodeAccount('A', account, { limits: LIMITS }, { signer: operator });
  const config = `operator: ${operatorJwt}\nresolver: MEMORY\nresolver_preload { ${account.getPublicKey()}: ${accountJwt} }`;
  const server = stack.use(await startNatsServer({ jetstream: false, config }));
  const user = async (name: string, claims: Partial<User> = {}) => {
    const key = createUser();
    const jwt = await encodeUser(name, key, account, claims);
    return { jwt, seed: new TextDecoder().decode(key.getSeed()), creds: fmtCreds(jwt, key) };
  };
  return { server, user };
}

describeWith(['nats-server'], 'connectContext() to a server in operator mode', () => {
  it('takes creds, JWT with seed and bearer JWT, and names whom the server refuses', async () => {
    await using dir = await tempDir();
    await using stack = new AsyncDisposableStack();
    const { server, user } = await startJwtServer(stack);
    const admin = await user('Admin');
    const bearer = await user('Bearer', { bearer_token: true });
    const file = join(dir.path, 'admin.creds');
    await writeFile(file, new TextDecoder().decode(admin.creds).replaceAll('\n', '\r\n'), { mode: 0o600 });

    await saveContext('Admin', { url: server.url, creds: file }, { configDir: dir.path });
    for (const connecting of [
      connectNats({ context: 'Admin', configDir: dir.path }),
      connectContext({ url: server.url, user_jwt: admin.jwt, user_seed: admin.seed }),
      connectContext({ url: server.url, user_jwt: bearer.jwt }),
      connectContext({ url: server.url, creds: `data:;base64,${Buffer.from(admin.creds).toString('base64')}` }),
    ]) {
      const nc = await connecting;
      await nc.flush();
      await nc.close();
    }

    await saveContext('Stranger', { url: server.url, user_jwt: admin.jwt }, { configDir: dir.path });
    await expect(connectNats({ context: 'Stranger', configDir: dir.path })).rejects.toMatchObject({
      code: 'CONTEXT_REFUSED',
      kind: 'refused',
      message: `Cannot connect to NATS at ${server.url}: the server refuses the user "Admin" of the context "Stranger"`,
    });
    await writeFile(file, 'nothing of use');
    await expect(connectContext({ url: server.url, creds: file })).rejects.toMatchObject({
      code: 'CONTEXT_CREDENTIALS',
    });
  });

  it('reads the creds file again at each reconnect, and lives on while it is away', async () => {
    await using dir = await tempDir();
    await using stack = new AsyncDisposableStack();
    const { server, user } = await startJwtServer(stack);
    const file = join(dir.path, 'user.creds');
    await writeFile(file, (await user('First')).creds);
    const nc = await connectContext({ url: server.url, creds: file });
    stack.defer(() => nc.close());
    const probe = async () => nc.request('probe').then(() => 'a reply', String);
    expect(await probe()).toContain('no responders');

    await rm(file);
    await server.restart();
    await waitFor('the connection without its file', async () => (await probe()).includes('no responders'));

    await writeFile(file, (await user('Second', { pub: { deny: ['probe'] } })).creds);
    await nc.reconnect();
    await waitFor('the new user', async () => (await probe()).includes('Permissions Violation'));
  });
});

describeWith(['nats-server'], 'connectContext() to a server with passwords', () => {
  it('takes user and password, also out of the URL, and shows no password', async () => {
    await using server = await startNatsServer({
      jetstream: false,
      config: 'authorization { user: "ada", password: "s3cret" }',
    });
    for (const context of [
      { url: server.url, user: 'ada', password: 's3cret' },
      { url: `nats://ada:s3cret@127.0.0.1:${server.port}` },
    ]) {
      await (await connectContext(context)).close();
    }
    const error: unknown = await connectContext({ url: `nats://ada:wr0ng@127.0.0.1:${server.port}` }).catch(
      (e: unknown) => e,
    );
    expect(error).toMatchObject({ code: 'CONTEXT_REFUSED' });
    expect(String(error)).toContain('the user "ada"');
    expect(String(error)).not.toContain('wr0ng');
  });

  it('takes a token and an nkey file', async () => {
    await using dir = await tempDir();
    const key = createUser();
    const seed = join(dir.path, 'user.nk');
    await writeFile(seed, key.getSeed());
    await chmod(seed, 0o600);
    await using byNkey = await startNatsServer({
      jetstream: false,
      config: `authorization { users: [{ nkey: ${key.getPublicKey()} }] }`,
    });
    await (await connectContext({ url: byNkey.url, nkey: seed })).close();
    await using byToken = await startNatsServer({ jetstream: false, config: 'authorization { token: "t0ken" }' });
    await (await connectContext({ url: byToken.url, token: 't0ken' })).close();
    await expect(connectContext({ url: byToken.url, token: 'other' })).rejects.toMatchObject({
      code: 'CONTEXT_REFUSED',
    });
  });
});

describe('connectContext() to nothing', () => {
  it('says connection refused', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, 'close');
    await expect(connectNats({ servers: `nats://u:p@127.0.0.1:${port}`, env: {} })).rejects.toMatchObject({
      code: 'CONTEXT_UNREACHABLE',
      kind: 'unreachable',
      message: `Cannot reach NATS at nats://127.0.0.1:${port}: connection refused`,
    });
  });

  it('gives up a silent server after its timeout, or earlier by its signal', async () => {
    const server = createServer((socket) => socket.on('error', () => undefined)).listen(0, '127.0.0.1');
    try {
      await once(server, 'listening');
      const url = `nats://127.0.0.1:${(server.address() as AddressInfo).port}`;
      const started = performance.now();
      await expect(connectContext({ url }, { timeoutMs: 200 })).rejects.toMatchObject({
        message: `Cannot reach NATS at ${url}: no answer within 200 ms`,
      });
      await expect(connectContext({ url: `${url},${url}` }, { timeoutMs: 200 })).rejects.toMatchObject({
        code: 'CONTEXT_UNREACHABLE',
      });
      const controller = new AbortController();
      const connecting = connectContext({ url }, { signal: controller.signal });
      controller.abort(new Error('enough'));
      await expect(connecting).rejects.toThrow('enough');
      expect(performance.now() - started).toBeLessThan(2000);
    } finally {
      server.close();
    }
  });
});
