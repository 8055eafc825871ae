import { dirname, join } from 'node:path';
import { readdir } from 'node:fs/promises';
import type { Account, Operator, User } from '@nats-io/jwt';
import { DevError } from '../dev-error.ts';
import type { NscStore } from './nsc-store.ts';
import { unscopedKeys } from './signing-keys.ts';
import { foldersIn } from '../write-file.ts';

/** Files and folders of the operator of a store: JWTs, creds, the seeds that they name, and what is the store's as long as it has no other operator. */
export async function operatorFiles(store: NscStore): Promise<string[]> {
  const folder = dirname(store.operatorFile);
  const stores = dirname(folder);
  const creds = dirname(dirname(store.credsFile('account', 'user')));
  const others = (await foldersIn(stores)).filter((name) => ![store.operator, 'creds', 'keys'].includes(name));
  return [
    folder,
    creds,
    ...(await keysOf(store)).map((key) => store.keyFile(key)),
    ...(others.length === 0 ? [join(store.root, 'nsc.json'), join(store.keystore, '.gitignore')] : []),
  ];
}

/** Public keys of operator, accounts and users, with those that sign. */
async function keysOf(store: NscStore): Promise<string[]> {
  const keys = await keysIn(store, store.operatorFile);
  for (const account of await store.accounts()) {
    keys.push(...(await keysIn(store, store.accountFile(account))));
    for (const user of await usersOf(store, account)) {
      keys.push(...(await keysIn(store, store.userFile(account, user))));
    }
  }
  return keys;
}

async function usersOf(store: NscStore, account: string): Promise<string[]> {
  const folder = dirname(store.userFile(account, 'user'));
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  return names.filter((name) => name.endsWith('.jwt')).map((name) => name.slice(0, -'.jwt'.length));
}

/** None of a JWT that is damaged: nobody can say whose seeds it had. */
async function keysIn(store: NscStore, file: string): Promise<string[]> {
  try {
    const { sub, nats } = (await store.readJwt<Partial<Operator & Account & User>>(file))?.claims ?? {};
    if (sub === undefined) return [];
    const system = nats?.system_account === undefined ? [] : [nats.system_account];
    return [sub, ...unscopedKeys({ signing_keys: nats?.signing_keys ?? [] }), ...system];
  } catch (error) {
    if (error instanceof DevError) return [];
    throw error;
  }
}
