import {
  type Authenticator,
  credsAuthenticator,
  jwtAuthenticator,
  nkeyAuthenticator,
  tokenAuthenticator,
  usernamePasswordAuthenticator,
} from '@nats-io/nats-core';
import { ContextError } from './context-error.ts';
import type { NatsContext } from './nats-context.ts';
import { fileSecret, literalSecret } from './secret-source.ts';
import type { ServerUrls } from './server-url.ts';

export interface Authentication {
  authenticators: Authenticator[];
  /** Who connects, fit to be shown: a user's name. Undefined when nobody in particular does. */
  who: string | undefined;
}

const encoder = new TextEncoder();

/**
 * How a context says who it is. The first that is set wins: `user`, `creds`, `nkey`, `user_jwt`; the credentials inside a URL come last.
 * A `token` is sent beside them. Everything is read once here, so that what is missing shows before connecting.
 */
export function authentication(context: NatsContext, userInfo?: ServerUrls['userInfo']): Authentication {
  const identity = identify(context) ?? urlIdentity(userInfo);
  const authenticators = identity === undefined ? [] : [identity.authenticator];
  if (context.token !== '') authenticators.push(tokenAuthenticator(literalSecret('token', context.token)));
  return { authenticators, who: identity?.who };
}

interface Identity {
  authenticator: Authenticator;
  who: string | undefined;
}

function identify(context: NatsContext): Identity | undefined {
  if (context.user !== '') {
    const password = literalSecret('password', context.password);
    return { authenticator: usernamePasswordAuthenticator(context.user, password), who: context.user };
  }
  if (context.creds !== '') return credsIdentity(fileSecret('creds', context.creds), context.creds);
  if (context.nkey !== '') return nkeyIdentity(fileSecret('nkey', context.nkey));
  if (context.user_jwt !== '') {
    const jwt = literalSecret('user_jwt', context.user_jwt).trim();
    const seed = literalSecret('user_seed', context.user_seed).trim();
    return { authenticator: jwtAuthenticator(jwt, seed === '' ? undefined : encoder.encode(seed)), who: jwtName(jwt) };
  }
  if (context.nsc === '') return undefined;
  throw new ContextError(
    'CONTEXT_UNSUPPORTED',
    'Cannot use the field "nsc": asking nsc for a profile is not supported',
    {
      hint: 'Put the path of the user\'s creds file in the field "creds"',
    },
  );
}

function credsIdentity(read: () => string, shown: string): Identity {
  // The authenticator runs inside the handshake, at every reconnect, where a throw would close the connection for good.
  // A file that is being replaced or has gone must not end a running node: what was read last is sent, and the server judges.
  let last = normalise(read());
  const blocks = [...last.matchAll(/-{3,}BEGIN [^\n]*-{3,}\n\s*(\S+)\s*\n-{3,}END /g)];
  if (blocks.length < 2) {
    throw new ContextError('CONTEXT_CREDENTIALS', `Cannot use the creds "${shown}": there is no JWT and seed in it`, {
      hint: 'Make the file anew: nsc generate creds --account <account> --name <user>',
    });
  }
  const authenticator = credsAuthenticator(() => {
    try {
      last = normalise(read());
    } catch (error) {
      if (!(error instanceof ContextError)) throw error;
    }
    return encoder.encode(last);
  });
  return { authenticator, who: jwtName(blocks[0]?.[1] ?? '') };
}

function nkeyIdentity(read: () => string): Identity {
  const seed = /\bSU[A-Z2-7]{56}\b/.exec(read())?.[0];
  if (seed === undefined) {
    throw new ContextError('CONTEXT_CREDENTIALS', 'Cannot use the nkey of the context: there is no user seed in it', {
      hint: 'Make one: nk -gen user',
    });
  }
  return { authenticator: nkeyAuthenticator(encoder.encode(seed)), who: undefined };
}

function urlIdentity(userInfo: ServerUrls['userInfo']): Identity | undefined {
  if (userInfo === undefined) return undefined;
  if ('token' in userInfo) return { authenticator: tokenAuthenticator(userInfo.token), who: undefined };
  return { authenticator: usernamePasswordAuthenticator(userInfo.user, userInfo.password), who: userInfo.user };
}

/** Creds files edited on Windows: the parser of the NATS client knows bare line feeds only. */
function normalise(text: string): string {
  return text.replaceAll('\r\n', '\n');
}

/** The name claim of a JWT, for messages only: nothing is verified. */
function jwtName(jwt: string): string | undefined {
  try {
    const claims = JSON.parse(Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString()) as { name?: unknown };
    return typeof claims.name === 'string' ? claims.name : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
