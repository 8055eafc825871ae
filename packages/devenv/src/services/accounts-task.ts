import type { NatsConnection } from '@nats-io/nats-core';
import { connectContext } from '@nex-nix/nats-context';
import { ACCOUNT } from '../nsc/claims.ts';
import { CONTEXTS, ensureContext } from './dev-contexts.ts';
import type { OnDevEvent } from '../dev-event.ts';
import type { Identities } from '../nsc/identities.ts';
import type { NscStore } from '../nsc/nsc-store.ts';
import { setServiceUrl } from '../nsc/operator.ts';
import { pushAccounts } from '../nsc/push-account.ts';
import type { Service } from '../supervisor/service.ts';

export interface AccountsTaskOptions {
  /** Folder of contexts: `XDG_CONFIG_HOME`. */
  configDir: string;
  store: NscStore;
  identities: Identities;
  /** URL of nats-server, which runs by then. */
  url: () => string;
  onEvent: OnDevEvent;
}

/** Tells nats-server of the accounts, writes the contexts that lead to it, makes the stream of logs and events. */
export class AccountsTask implements Service {
  readonly name = 'accounts';
  readonly after = ['nats'] as const;
  readonly #options: AccountsTaskOptions;

  constructor(options: AccountsTaskOptions) {
    this.#options = options;
  }

  async start(signal: AbortSignal): Promise<undefined> {
    const { store, identities, onEvent, configDir } = this.#options;
    const url = this.#options.url();
    await setServiceUrl(store, url, onEvent);
    const creds = (user: string): string => store.credsFile(user === 'sys' ? identities.system.name : ACCOUNT, user);
    await connected({ url, creds: creds('sys') }, signal, (nc) => pushAccounts(nc, { store, identities, onEvent }));
    for (const [name, user] of Object.entries(CONTEXTS)) {
      await ensureContext(configDir, { name, url, creds: creds(user) }, onEvent);
    }
    // Loaded where it is needed only: most commands just ask those that run, and these two take their time.
    const [{ ensureFeedStream }, { FEED_STREAM }] = await Promise.all([
      import('@nex-nix/node'),
      import('@nex-nix/protocol'),
    ]);
    await connected({ url, creds: creds('Admin') }, signal, async (nc) => {
      onEvent({ type: 'stream', name: FEED_STREAM, created: await ensureFeedStream(nc) });
    });
    return undefined;
  }
}

async function connected(
  user: { url: string; creds: string },
  signal: AbortSignal,
  use: (nc: NatsConnection) => Promise<void>,
): Promise<void> {
  const nc = await connectContext(user, { name: 'nex dev', reconnect: false, signal });
  try {
    await use(nc);
  } finally {
    await nc.close();
  }
  signal.throwIfAborted();
}
