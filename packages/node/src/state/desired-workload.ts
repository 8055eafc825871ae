import { ProtocolError, StartWorkloadRequest } from '@nex-nix/protocol';

/** How far a workload has come: asked for, accepted by its nexlet, seen running (or seen to have run). */
type Progress = 'starting' | 'accepted' | 'started';

/** The nexlet that a workload was given to. */
interface Owner {
  /** The name it registered under. */
  readonly name: string;
  /** Its public curve key, `X…`: tells two nexlets of one name apart. */
  readonly xkey: string;
}

/** One workload that a node is to run. */
export interface DesiredWorkload {
  readonly id: string;
  /** As it was asked for, with the keys that this version does not know. */
  readonly request: StartWorkloadRequest;
  /** Undefined where a Go node wrote the entry. */
  readonly owner?: Owner;
  readonly progress: Progress;
  /** When it came to that. */
  readonly since: Date;
}

/** What this project adds to the start request in an entry. Go reads past unknown keys. */
const OWN_KEY = 'nex_nix';

/** `<workload type>_<workload id>`, as Go nodes name their entries. */
export function entryKey(id: string, type: string): string {
  return `${type}_${id}`;
}

/** The id in the key of an entry that has no content any more. Ids have no `_`, types may. */
export function idOfKey(key: string): string {
  return key.slice(key.lastIndexOf('_') + 1);
}

/** An entry's value: the start request, and beside its keys one of our own. */
export function encodeEntry({ request, owner, progress, since }: DesiredWorkload): string {
  const own = { ...(owner === undefined ? {} : { nexlet: owner }), state: progress, time: since.toISOString() };
  return JSON.stringify({ ...request, [OWN_KEY]: own });
}

/**
 * Reads an entry of ours or of a Go node, which has accepted workloads only.
 *
 * @throws {ProtocolError} NEX_MESSAGE_INVALID when it holds no start request, or one of another type than the key says
 */
export function decodeEntry(key: string, value: Uint8Array | string, written: Date): DesiredWorkload {
  const { [OWN_KEY]: own, ...request } = StartWorkloadRequest.decode(value, key) as StartWorkloadRequest & {
    [OWN_KEY]?: unknown;
  };
  const prefix = `${request.workload_type}_`;
  if (!key.startsWith(prefix) || key.length === prefix.length) {
    const message = `Cannot read the state entry "${key}": its request is of type "${request.workload_type}"`;
    throw new ProtocolError('NEX_MESSAGE_INVALID', message);
  }
  const { nexlet, state, time } = (typeof own === 'object' && own !== null ? own : {}) as Record<string, unknown>;
  const since = new Date(typeof time === 'string' ? time : NaN);
  return {
    id: key.slice(prefix.length),
    request,
    ...(isOwner(nexlet) ? { owner: { name: nexlet.name, xkey: nexlet.xkey } } : {}),
    progress: state === 'starting' || state === 'started' ? state : 'accepted',
    since: Number.isNaN(since.getTime()) ? written : since,
  };
}

function isOwner(value: unknown): value is Owner {
  if (typeof value !== 'object' || value === null) return false;
  return 'name' in value && typeof value.name === 'string' && 'xkey' in value && typeof value.xkey === 'string';
}
