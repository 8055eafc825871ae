import { parseStorePath, type StorePath, storePathHash } from '@nex-nix/nix';
import { pathNotFound } from '../service/closure.ts';
import { CacheError } from '../errors.ts';
import type { IndexStore } from '../service/index-store.ts';
import type { JetStream, Task } from '../jetstream/jetstream.ts';
import { KV_OPERATION_HEADER, PIN_STREAM, PIN_SUBJECTS, pinSubject } from '../jetstream/layout.ts';
import { Journal } from './journal.ts';
import { leaderMessage, type LeaderMessage, leaderMessages, replaceMessage } from './leader.ts';

/** A version of a pin, as it travels and is stored. */
export interface PinnedVersion {
  readonly storePath: StorePath;
  /** When it was pinned first without a break, in ISO 8601. */
  readonly since: string;
}

/** A pin: a name and the paths that it keeps, the newest first. */
export interface Pin {
  readonly name: string;
  readonly versions: readonly PinnedVersion[];
}

const NAME = /^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*$/;
const NAME_MAX = 200;
const KEEP_MAX = 1000;
const ATTEMPTS = 20;

/** Pins as they are stored: changed by compare-and-set, so that none is lost when several change one at once. */
export class PinStore {
  readonly #jetstream: JetStream;
  readonly #index: IndexStore;

  constructor(jetstream: JetStream, index: IndexStore) {
    this.#jetstream = jetstream;
    this.#index = index;
  }

  /** All pins, by name. */
  async list(signal?: AbortSignal): Promise<Pin[]> {
    const { pins } = await readPins(this.#jetstream, { from: 1, signal });
    return [...pins.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /**
   * Makes a path the newest version of a pin, and forgets all but the last `keep` versions.
   * @throws {@link CacheError} `CACHE_PATH_NOT_FOUND`
   */
  async pin(name: string, { path, keep }: { path: StorePath; keep: number }, signal?: AbortSignal): Promise<void> {
    checkPinName(name);
    if (!Number.isInteger(keep) || keep < 1 || keep > KEEP_MAX) {
      throw new CacheError('CACHE_PROTOCOL', `Cannot pin "${path}": ${keep} versions are not 1 to ${KEEP_MAX}`);
    }
    await this.#requireListed(path, signal);
    await this.#change(name, signal, (versions) => {
      const same = versions[0]?.storePath === path ? versions[0] : undefined;
      const newest = same ?? { storePath: path, since: new Date().toISOString() };
      return [newest, ...versions.filter(({ storePath }) => storePath !== path)].slice(0, keep);
    });
    // A collection that has not seen the pin has announced before what it removes.
    const key = storePathHash(path);
    await new Journal(this.#jetstream).settled(({ paths }) => paths.some(([doomed]) => doomed === key), signal);
    try {
      await this.#requireListed(path, signal);
    } catch (error) {
      await this.forget(name, path, signal);
      throw error;
    }
  }

  /** Takes one version out of a pin. */
  async forget(name: string, path: StorePath, signal?: AbortSignal): Promise<void> {
    await this.#change(name, signal, (versions) => versions.filter(({ storePath }) => storePath !== path));
  }

  /** @returns whether there was such a pin. */
  async unpin(name: string, signal?: AbortSignal): Promise<boolean> {
    checkPinName(name);
    return this.#change(name, signal, () => []);
  }

  async #requireListed(path: StorePath, signal: AbortSignal | undefined): Promise<void> {
    if ((await this.#index.narInfo(path, signal)) === undefined) throw pathNotFound(path);
  }

  /** @returns whether the pin was there before. */
  async #change(
    name: string,
    signal: AbortSignal | undefined,
    change: (versions: readonly PinnedVersion[]) => readonly PinnedVersion[],
  ): Promise<boolean> {
    const subject = pinSubject(name);
    const task = { action: `change the pin "${name}"`, signal };
    for (let left = ATTEMPTS; left > 0; left--) {
      const message = await leaderMessage(this.#jetstream, { stream: PIN_STREAM, last_by_subj: subject }, task);
      const before = message === undefined ? [] : decodePin(message).versions;
      const after = change(before);
      if (before.length === 0 && after.length === 0) return false;
      const headers: Record<string, string> = after.length === 0 ? { [KV_OPERATION_HEADER]: 'DEL' } : {};
      const changed = { subject, body: after.length === 0 ? '' : JSON.stringify(after), headers };
      if ((await replaceMessage(this.#jetstream, changed, { ...task, previous: message?.seq ?? 0 })) !== undefined) {
        return before.length > 0;
      }
    }
    throw new CacheError('CACHE_PIN_CONTENDED', `Cannot change the pin "${name}": others keep changing it`, {
      hint: 'Try again; see to it that one deployment has one writer',
    });
  }
}

/** The pins stored at the sequence `from` and later, deleted ones without versions; and the sequence to go on from. */
export async function readPins(
  jetstream: JetStream,
  { from, signal }: { from: number; signal?: AbortSignal | undefined },
): Promise<{ pins: Map<string, Pin>; next: number }> {
  const pins = new Map<string, Pin>();
  let next = from;
  const task: Task = { action: 'read the pins', signal };
  const region = { stream: PIN_STREAM, subjects: PIN_SUBJECTS };
  for await (const message of leaderMessages(jetstream, region, { ...task, from })) {
    const pin = decodePin(message);
    pins.delete(pin.name);
    if (pin.versions.length > 0) pins.set(pin.name, pin);
    next = Math.max(next, message.seq + 1);
  }
  return { pins, next };
}

/**
 * Checks that a pin can have this name: letters, digits, `_` and `-`, in parts that dots separate.
 * @throws {@link CacheError} `CACHE_PIN_NAME_INVALID`
 */
export function checkPinName(name: string): void {
  if (NAME.test(name) && name.length <= NAME_MAX) return;
  throw new CacheError('CACHE_PIN_NAME_INVALID', `Cannot use ${JSON.stringify(name)} as the name of a pin`, {
    hint: `Letters, digits, "_" and "-", in parts separated by dots, ${NAME_MAX} at most: site.production`,
  });
}

function decodePin({ subject, data, headers }: LeaderMessage): Pin {
  const name = subject.slice(pinSubject('').length);
  if (headers.has(KV_OPERATION_HEADER)) return { name, versions: [] };
  return { name, versions: decodeVersions(name, Buffer.from(data).toString()) };
}

function decodeVersions(name: string, text: string): PinnedVersion[] {
  try {
    const versions = JSON.parse(text) as readonly Record<keyof PinnedVersion, unknown>[];
    return versions.map(({ storePath, since }) => ({
      storePath: parseStorePath(String(storePath)),
      since: String(since),
    }));
  } catch (cause) {
    throw new CacheError('CACHE_PROTOCOL', `Cannot read the pin "${name}": it makes no sense`, {
      cause,
      hint: `Delete it: nats kv del nix_pins ${name}`,
    });
  }
}
