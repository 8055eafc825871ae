// The two minters that make no users of their own, and how TLS is passed on.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { nkeyAuthenticator } from '@nats-io/nats-core';
import { createUser } from '@nats-io/nkeys';
import { connectWith } from '@nex-nix/nexlet';
import { NexClient } from '@nex-nix/protocol';
import { describeWith, startNatsServer, tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { fullAccessMinter, nkeyMinter, startNode } from '../src/index.ts';
import { memoryNexlet } from './memory-nexlet.ts';

const echo = { type: 'memory', name: 'echo', lifecycle: 'service' as const, runRequest: { program: 'echo' } };
const scope = { nodeId: 'N', nexus: 'nexus', agentId: 'a' };
const seedOf = (pair: { getSeed(): Uint8Array }) => new TextDecoder().decode(pair.getSeed());

describe('nkeyMinter()', () => {
  it('shares one user with nexlets and workloads', async () => {
    const [user, stranger] = [createUser(), createUser()];
    const nkey = user.getPublicKey();
    await using dir = await tempDir();
    const config = `authorization { users: [ { nkey: ${nkey} } ] }`;
    await using server = await startNatsServer({ jetstream: false, config });
    const connect = () => server.connect({ authenticator: nkeyAuthenticator(user.getSeed()) });
    const nexlet = memoryNexlet();
    const minter = nkeyMinter({ servers: [server.url], nkey, seed: seedOf(user) });
    const options = { name: 'n', stateDir: dir.path, version: '0.1.0', minter, nexlets: [nexlet.definition] };
    await using running = new AsyncDisposableStack();
    running.use(await startNode(await connect(), options));
    const { id } = await new NexClient(await connect()).startWorkload(echo);
    const credentials = nexlet.workloads.get(id)?.credentials;
    expect(credentials).toMatchObject({ nats_user_nkey: nkey, nats_user_seed: seedOf(user), nats_user_jwt: '' });
    await using nc = await connectWith(credentials ?? (await minter.agent(scope)));
    await nc.flush();
    for (const seed of ['', 'SUX', seedOf(stranger)]) {
      const make = () => nkeyMinter({ servers: [], nkey, seed });
      expect(make).toThrow(expect.objectContaining({ code: 'NODE_MINTER_INVALID' }));
    }
  });
});

describeWith(['nats-server', 'openssl'], 'TLS', () => {
  it('is passed on to those that get credentials: their files, all servers', async () => {
    await using dir = await tempDir();
    const [cert, key] = [join(dir.path, 'cert.pem'), join(dir.path, 'key.pem')];
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
    const made = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '1', '-out', cert, '-keyout', key];
    await promisify(execFile)('openssl', [...made, ...subject]);
    const config = `tls { cert_file: ${JSON.stringify(cert)}, key_file: ${JSON.stringify(key)} }`;
    await using server = await startNatsServer({ jetstream: false, config });
    const servers = [server.url, 'nats://127.0.0.1:1'];
    const minter = fullAccessMinter({ servers, tls: { ca: cert } });
    expect(await minter.workload({ namespace: 'n', workloadId: 'w' })).toMatchObject({
      nats_servers: servers,
      tls_ca: cert,
      tls_cert: '',
      tls_key: '',
      tls_first: false,
    });
    const nexlet = memoryNexlet();
    const nc = await server.connect({ tls: { caFile: cert } });
    await using running = new AsyncDisposableStack();
    const options = { name: 'n', stateDir: join(dir.path, 'node'), version: '0.1.0', minter };
    running.use(await startNode(nc, { ...options, nexlets: [nexlet.definition] }));
    const { id } = await new NexClient(nc).startWorkload(echo);
    expect(nexlet.workloads.get(id)?.credentials.tls_ca).toBe(cert);
    const data = { servers, tls: { ca: cert, cert, key, first: true } };
    expect(await fullAccessMinter(data).registration(scope)).toMatchObject({
      tls_cert: cert,
      tls_key: key,
      tls_first: true,
    });
  });
});
