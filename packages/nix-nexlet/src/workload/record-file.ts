import type { WorkloadParts } from './managed-workload.ts';
import type { WorkloadRecord } from './workload-record.ts';

/** The record of one workload, written anew whenever something of it has changed; one writing at a time. */
export class RecordFile {
  readonly #parts: Pick<WorkloadParts, 'id' | 'records' | 'logger'>;
  readonly #describe: () => WorkloadRecord;
  #writing: Promise<void> = Promise.resolve();
  /** One that has not begun, and will write what holds then. */
  #waiting: Promise<void> | undefined;

  /** `describe`: what is to be written, as it is now. */
  constructor(parts: Pick<WorkloadParts, 'id' | 'records' | 'logger'>, describe: () => WorkloadRecord) {
    this.#parts = parts;
    this.#describe = describe;
  }

  /** Resolves when what holds now, or later, is written. */
  async save(): Promise<void> {
    this.#waiting ??= this.#write(this.#writing);
    return this.#waiting;
  }

  /** The same for what the workload can go on without. Never rejects. */
  async trySave(): Promise<void> {
    await this.#attempt('its record cannot be written', () => this.save());
  }

  /** Never rejects. */
  async remove(): Promise<void> {
    await (this.#waiting ?? this.#writing).catch(() => undefined);
    await this.#attempt('its record cannot be removed', () => this.#parts.records.remove(this.#parts.id));
  }

  async #write(before: Promise<void>): Promise<void> {
    // What fails is told to whoever had asked for it.
    await before.catch(() => undefined);
    this.#waiting = undefined;
    this.#writing = this.#parts.records.save(this.#describe());
    await this.#writing;
  }

  async #attempt(failure: string, action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (error) {
      const { id, logger } = this.#parts;
      logger.error({ workload: id, err: error }, `workload "${id}": ${failure}`);
    }
  }
}
