import { ContextError } from './context-error.ts';

/**
 * A natscli context. Field names and order are those of its file (jsm.go `natscontext`), so that a round trip changes nothing;
 * an unset field is the empty string, `false` or `null`, never absent.
 */
export interface NatsContext {
  /** Name of the context, which is its file's name. Not stored in the file; empty for a context that is in no file. */
  name: string;
  description: string;
  /** Server URLs, separated by commas. Empty: `nats://127.0.0.1:4222`. */
  url: string;
  socks_proxy: string;
  token: string;
  user: string;
  password: string;
  /** Path of a creds file, `$VAR` and a leading `~` allowed; or `file://`, `env://`, `data:;base64,`. */
  creds: string;
  /** Path of a file that holds an nkey seed; the same schemes as `creds`. */
  nkey: string;
  cert: string;
  key: string;
  ca: string;
  /** Deprecated by natscli: `nsc://operator/account/user`. Ignored when `creds` is set, refused otherwise. */
  nsc: string;
  jetstream_domain: string;
  jetstream_api_prefix: string;
  jetstream_event_prefix: string;
  inbox_prefix: string;
  /** A user JWT, or `env://`, `data:;base64,`. Without `user_seed` it must be a bearer JWT. */
  user_jwt: string;
  user_seed: string;
  color_scheme: string;
  tls_first: boolean;
  windows_cert_store: string;
  windows_cert_match_by: string;
  windows_cert_match: string;
  windows_ca_certs_match: string[] | null;
}

const EMPTY: NatsContext = {
  name: '',
  description: '',
  url: '',
  socks_proxy: '',
  token: '',
  user: '',
  password: '',
  creds: '',
  nkey: '',
  cert: '',
  key: '',
  ca: '',
  nsc: '',
  jetstream_domain: '',
  jetstream_api_prefix: '',
  jetstream_event_prefix: '',
  inbox_prefix: '',
  user_jwt: '',
  user_seed: '',
  color_scheme: '',
  tls_first: false,
  windows_cert_store: '',
  windows_cert_match_by: '',
  windows_cert_match: '',
  windows_ca_certs_match: null,
};

/** The fields that say who connects, in the order in which natscli takes them. */
const IDENTITY_FIELDS = ['user', 'creds', 'nkey', 'user_jwt', 'nsc'] as const;

/** A context with every field, the given ones set. */
export function natsContext(fields: Partial<NatsContext> = {}): NatsContext {
  return { ...EMPTY, ...fields };
}

/** Reads the text of a context file. Unknown fields are ignored and absent ones are unset, as natscli does. */
export function parseContext(name: string, text: string): NatsContext {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw invalid(name, 'its file is not JSON', cause);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw invalid(name, 'its file is not an object');
  const context: Record<string, unknown> = { ...natsContext({ name }) };
  for (const [field, value] of Object.entries(json)) {
    if (field === 'name' || !Object.hasOwn(EMPTY, field) || value === null) continue;
    if (!hasTypeOf(EMPTY[field as keyof NatsContext], value))
      throw invalid(name, `its field "${field}" has a wrong type`);
    context[field] = value;
  }
  return context as unknown as NatsContext;
}

/**
 * Text of a context file as natscli writes it: two spaces of indentation, every field, no name.
 * A context that says more than once who connects is refused, as by natscli.
 */
export function formatContext(context: NatsContext): string {
  const identities = IDENTITY_FIELDS.filter((field) => context[field] !== '');
  if (identities.length > 1) throw invalid(context.name, `only one of ${identities.join(', ')} can be set`);
  const fields = Object.keys(EMPTY).filter((field) => field !== 'name') as (keyof NatsContext)[];
  return JSON.stringify(Object.fromEntries(fields.map((field) => [field, context[field]])), null, 2);
}

function hasTypeOf(example: unknown, value: unknown): boolean {
  if (example !== null) return typeof value === typeof example;
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function invalid(name: string, why: string, cause?: unknown): ContextError {
  return new ContextError('CONTEXT_INVALID', `Cannot use the context "${name}": ${why}`, {
    hint: `nats context edit ${name}`,
    cause,
  });
}
