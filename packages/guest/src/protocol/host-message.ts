import {
  base64,
  type Check,
  integer,
  list,
  object,
  oneOf,
  optional,
  positive,
  record,
  text,
  textWithoutNul,
} from './checks.ts';
import { checkType, positions, signalName } from './guest-message.ts';
import { GuestError } from '../guest-error.ts';
import type { Ack, GuestRequest, Hello, StreamPositions } from './messages.ts';

const LONG = 16 * 1024 * 1024;

const time = integer(0);
const slot = integer(0, 15);
const fileText = text(1024 * 1024);
const program = text(4096, /^\/[^\0]+$/);
const argv = list(textWithoutNul(LONG));
const environment = record(/^[^=\0]+$/, textWithoutNul(LONG));
/** The file system does not take others, and neither does anything that these names are told to. */
const storePath = text(4096, /^\/nix\/store\/[0-9a-z]{32}-[A-Za-z0-9+._?=-]{1,211}$/);
const address = text(64, /^[0-9A-Fa-f.:]+(\/\d{1,3})?$/);
const privateFile = text(100, /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/);

type Fields<Type extends GuestRequest['type']> = Omit<Extract<GuestRequest, { type: Type }>, 'type'>;

const none = object({});

const REQUESTS: { readonly [Type in GuestRequest['type']]: Check<Fields<Type>> } = {
  identify: object({
    hostname: text(64, /^[A-Za-z0-9][A-Za-z0-9.-]*$/),
    time,
    seed: base64(32, 4096),
    hosts: fileText,
    resolvConf: fileText,
    network: optional(
      object({
        mac: text(17, /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/),
        addresses: list(address, 16),
        gateways: list(address, 16),
        mtu: optional(integer(68, 65_535)),
      }),
    ),
  }),
  prepare: object({
    disk: optional(slot),
    closure: list(object({ storePath, from: oneOf('image', 'disk') })),
    tmp: integer(0),
    scratch: optional(slot),
    privateFolder: optional(
      object({
        path: text(100, /^\/run\/[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/),
        files: record(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/, text(LONG)),
      }),
    ),
  }),
  start: object({
    program,
    argv,
    environment,
    limits: object({ memory: optional(integer(1)), cpus: optional(positive), pids: optional(integer(1)) }),
    stdin: optional(base64(0, LONG)),
  }),
  signal: object({ signal: signalName }),
  kill: none,
  exec: object({ program, argv, environment }),
  cancel: object({ exec: integer(1) }),
  replace: object({ name: privateFile, content: text(LONG) }),
  usage: none,
  clock: object({ time }),
  ping: none,
  settle: none,
  shutdown: none,
};

const hello: Check<Omit<Hello, 'type'>> = object({
  versions: list(integer(0), 64),
  session: text(64, /^[A-Za-z0-9-]{16,}$/),
  have: positions,
});

const ack: Check<StreamPositions> = positions;

/** The `hello` in what came; undefined when it is something else, or no right one. */
export function helloIn(value: unknown): Hello | undefined {
  try {
    return checkType(value).type === 'hello' ? { type: 'hello', ...hello(value, 'hello') } : undefined;
  } catch (error) {
    if (error instanceof GuestError) return undefined;
    throw error;
  }
}

/** The `ack` in what came; undefined when it is something else. Throws GUEST_PROTOCOL when it is no right one. */
export function ackIn(value: unknown): Ack | undefined {
  return checkType(value).type === 'ack' ? { type: 'ack', ...ack(value, 'ack') } : undefined;
}

/** The id of a request, however wrong the rest of it is; undefined when there is none. */
export function requestId(value: unknown): number | undefined {
  const id = (value as { id?: unknown } | null)?.id;
  return typeof id === 'number' && Number.isSafeInteger(id) && id > 0 ? id : undefined;
}

/** A request of a host. Throws GUEST_PROTOCOL. */
export function checkRequest(value: unknown): GuestRequest {
  const { type } = checkType(value);
  if (!isRequestType(type)) throw new GuestError('GUEST_PROTOCOL', `Cannot understand a request of the type "${type}"`);
  return { type, ...REQUESTS[type](value, type) } as GuestRequest;
}

function isRequestType(type: string): type is GuestRequest['type'] {
  return Object.hasOwn(REQUESTS, type);
}
