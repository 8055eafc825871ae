import type { LogEntry, LogPosition, Sandbox } from '@nex-nix/sandbox';

/** Time between two writings of a position, in milliseconds: so much is published again after a kill. */
const SAVE_INTERVAL = 250;

export const START_OF_LOGS: LogPosition = { stdout: 0, stderr: 0 };

export interface LogSink {
  publish: (entry: LogEntry) => void;
  /** Writes down that everything before `position` was published. Must not reject. */
  save: (position: LogPosition) => Promise<void>;
}

/**
 * Publishes the lines of a sandbox from a position on, until it has ended or is let go of. The position is saved at
 * the beginning, at the end, and soon after a line was published, never before: whoever goes on from it misses no line,
 * and repeats none unless this process was killed within the last moment.
 */
export async function followLogs(sandbox: Sandbox, from: LogPosition, { publish, save }: LogSink): Promise<void> {
  await save(from);
  await using position = new SavedPosition(save);
  for await (const entry of sandbox.logs(from, { follow: true })) {
    publish(entry);
    position.moveTo(entry.position);
  }
}

/** A position that is saved at most once an interval, and when it is disposed. */
class SavedPosition implements AsyncDisposable {
  readonly #save: (position: LogPosition) => Promise<void>;
  #unsaved: LogPosition | undefined;
  #timer: NodeJS.Timeout | undefined;
  #saving: Promise<void> = Promise.resolve();

  constructor(save: (position: LogPosition) => Promise<void>) {
    this.#save = save;
  }

  moveTo(position: LogPosition): void {
    this.#unsaved = position;
    this.#timer ??= setTimeout(() => this.#flush(), SAVE_INTERVAL);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer);
    this.#flush();
    await this.#saving;
  }

  #flush(): void {
    this.#timer = undefined;
    this.#saving = this.#saveAfter(this.#saving);
  }

  /** One after the other: a slow disk must not let an older position win. */
  async #saveAfter(earlier: Promise<void>): Promise<void> {
    await earlier;
    const position = this.#unsaved;
    this.#unsaved = undefined;
    if (position !== undefined) await this.#save(position);
  }
}
