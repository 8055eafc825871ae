import { createHash } from 'node:crypto';

/** One line of a `uid_map`, see user_namespaces(7): `length` ids from `inside` on exist here. */
export interface IdExtent {
  inside: number;
  length: number;
}

/** Ids of this machine that belong to one sandbox alone. */
export interface HostIds {
  /** What 0 inside is outside. */
  root: number;
  /** What the program's user is outside. */
  user: number;
}

/**
 * Where the ids of sandboxes come from. The range lies in the one that systemd's "Users, Groups, UIDs and GIDs" page
 * sets aside for containers (524288 to 1879048191), far above what `/etc/subuid` hands out.
 */
const RANGE = { inside: 0x4000_0000, length: 0x2000_0000 } as const;

/** Parses `/proc/self/uid_map` or `gid_map`. */
export function parseIdMap(text: string): IdExtent[] {
  return text
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number))
    .filter((fields) => fields.length === 3)
    .map(([inside = 0, , length = 0]) => ({ inside, length }));
}

/**
 * Two ids that depend on `key` only, so that nothing has to be kept to tell them again. Where this process itself lives
 * in a user namespace without our range, they come from the upper half of the largest extent it has.
 */
export function allocateIds(extents: readonly IdExtent[], key: string): HostIds {
  const { inside, length } = extents.some((extent) => covers(extent, RANGE)) ? RANGE : upperHalf(extents);
  const slots = Math.max(1, Math.floor(length / 2));
  const root = inside + 2 * (createHash('sha256').update(key).digest().readUInt32BE() % slots);
  return { root, user: root + 1 };
}

function covers(outer: IdExtent, inner: IdExtent): boolean {
  return outer.inside <= inner.inside && outer.inside + outer.length >= inner.inside + inner.length;
}

function upperHalf(extents: readonly IdExtent[]): IdExtent {
  const { inside, length } = extents.reduce((a, b) => (b.length > a.length ? b : a), { inside: 0, length: 0 });
  const half = Math.floor(length / 2);
  return { inside: inside + half, length: length - half };
}
