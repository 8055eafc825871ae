import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Account, decode, type Operator, parseCreds, type User } from '@nats-io/jwt';
import { tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import type { DevEvent } from '../dev-event.ts';
import { ensureIdentities } from './identities.ts';
import { NscStore } from './nsc-store.ts';
import { setServiceUrl } from './operator.ts';

const silent = () => undefined;

it('ensureIdentities() lays out what nsc lays out, private, signed top down', async () => {
  await using dir = await tempDir();
  const store = await NscStore.open(dir.path, 'Nex');
  const { system, account } = await ensureIdentities(store, silent);

  const operator = decode<Operator>(await readFile(join(dir.path, 'Nex/Nex.jwt'), 'utf8'));
  expect(operator.nats).toMatchObject({ type: 'operator', version: 2, system_account: system.publicKey });
  const exp = decode<Account>(await readFile(join(dir.path, 'Nex/accounts/Exp/Exp.jwt'), 'utf8'));
  expect(exp).toMatchObject({ sub: account.publicKey, iss: operator.nats.signing_keys?.[0] });
  expect(exp.nats.limits).toMatchObject({ conn: -1, disk_storage: -1, mem_storage: -1 });
  const echo = decode<User>(await readFile(join(dir.path, 'Nex/accounts/Exp/users/EchoService.jwt'), 'utf8'));
  expect(echo).toMatchObject({
    iss: account.signingKey,
    nats: { bearer_token: true, issuer_account: account.publicKey },
  });
  const admin = await parseCreds(await readFile(join(dir.path, 'creds/Nex/Exp/Admin.creds')));
  expect(admin.uc.nats).not.toHaveProperty('resp');

  const seedFile = join(dir.path, 'keys/A', account.signingKey.slice(1, 3), `${account.signingKey}.nk`);
  expect(await readFile(seedFile, 'utf8')).toMatch(/^SA[A-Z2-7]{56}$/);
  const files = await readdir(dir.path, { recursive: true, withFileTypes: true });
  for (const file of files) {
    const { mode } = await stat(join(file.parentPath, file.name));
    expect(mode & 0o077, file.name).toBe(0);
  }
  expect(files.filter((file) => file.name.endsWith('.tmp'))).toEqual([]);
  const settings = JSON.parse(await readFile(join(dir.path, 'nsc.json'), 'utf8')) as unknown;
  expect(settings).toMatchObject({ store_root: dir.path, operator: 'Nex', account: 'Exp' });
});

it('ensureIdentities() loads what there is and completes what was interrupted', async () => {
  await using dir = await tempDir();
  const store = await NscStore.open(dir.path, 'Nex');
  const first = await ensureIdentities(store, silent);
  await rm(store.userFile('Exp', 'Node'));
  await rm(store.credsFile('Exp', 'Admin'));
  const adminJwt = await readFile(store.userFile('Exp', 'Admin'), 'utf8');

  const events: DevEvent[] = [];
  expect(await ensureIdentities(store, (event) => events.push(event))).toEqual(first);
  expect(events.flatMap((event) => (event.type === 'identity' && event.created ? event.name : []))).toEqual(['Node']);
  expect((await parseCreds(await readFile(store.credsFile('Exp', 'Admin')))).jwt).toBe(adminJwt);
});

it('ensureIdentities() does not make a second account in place of a damaged one', async () => {
  await using dir = await tempDir();
  const store = await NscStore.open(dir.path, 'Nex');
  const { account } = await ensureIdentities(store, silent);
  const file = store.accountFile('Exp');
  const jwt = await readFile(file, 'utf8');

  await writeFile(file, jwt.slice(0, -8));
  await expect(ensureIdentities(store, silent)).rejects.toMatchObject({
    code: 'DEVENV_STORE_INVALID',
    message: `Cannot use the keys in "${dir.path}": the JWT in ${file} is damaged`,
  });
  await writeFile(file, jwt);
  await rm(store.keyFile(account.signingKey));
  await rm(store.keyFile(account.publicKey));
  await expect(ensureIdentities(store, silent)).rejects.toThrow('there is no signing key of the account "Exp"');

  await using other = await tempDir();
  const otherStore = await NscStore.open(other.path, 'Nex');
  await ensureIdentities(otherStore, silent);
  await writeFile(otherStore.accountFile('Exp'), jwt);
  await expect(ensureIdentities(otherStore, silent)).rejects.toThrow('the account "Exp" belongs to another operator');
});

it('setServiceUrl() changes nothing but the URLs', async () => {
  await using dir = await tempDir();
  const store = await NscStore.open(dir.path, 'Nex');
  await ensureIdentities(store, silent);
  const before = await store.readJwt<Operator>(store.operatorFile);
  await setServiceUrl(store, 'nats://127.0.0.1:1');
  const after = await store.readJwt<Operator>(store.operatorFile);
  expect(after?.claims.nats).toEqual({
    ...before?.claims.nats,
    account_server_url: 'nats://127.0.0.1:1',
    operator_service_urls: ['nats://127.0.0.1:1'],
  });
  await setServiceUrl(store, 'nats://127.0.0.1:1');
  expect(await store.readJwt(store.operatorFile)).toEqual(after);
});

it('setServiceUrl() leaves what names another machine, and says how to push', async () => {
  await using dir = await tempDir();
  const store = await NscStore.open(dir.path, 'Nex');
  await ensureIdentities(store, silent);
  await setServiceUrl(store, 'nats://nats.example.com:4222');
  const before = await store.readJwt(store.operatorFile);
  const events: DevEvent[] = [];
  await setServiceUrl(store, 'nats://127.0.0.1:2', (event) => events.push(event));
  expect(await store.readJwt(store.operatorFile)).toEqual(before);
  expect(events).toEqual([
    {
      type: 'store-notice',
      message: `nsc does not know of this server: its JWT names nats://nats.example.com:4222. To push to it: nsc -H ${dir.path} push -A -u nats://127.0.0.1:2`,
    },
  ]);
});

it('NscStore.open() asks for a choice where nothing tells which operator is meant', async () => {
  await using dir = await tempDir();
  for (const name of ['One', 'Two']) {
    await mkdir(join(dir.path, name));
    await writeFile(join(dir.path, name, '.nsc'), JSON.stringify({ name, kind: 'operator', version: '1' }));
  }
  await expect(NscStore.open(dir.path, 'Nex')).rejects.toMatchObject({
    message: `Cannot tell which of the operators One, Two in "${dir.path}" to use`,
    hint: `Choose one: nsc -H ${dir.path} env -o One`,
  });
  expect((await NscStore.open(dir.path, 'Two')).operator).toBe('Two');
});
