import type { Logger } from '@nex-nix/nexlet';
import type { MicrovmEvent } from '@nex-nix/sandbox';

/** Log lines about the virtual machines of a node, in the words of Nex 0.1.5: who watches logs knows them. */
export class MachineLog {
  readonly #logger: Logger;
  /** What has happened before the node's own first lines were out; undefined after that. */
  #held: MicrovmEvent[] | undefined = [];

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  readonly onEvent = (event: MicrovmEvent): void => {
    if (this.#held === undefined) this.#write(event);
    else this.#held.push(event);
  };

  /** Writes what was held back, and from now on each line at once. */
  release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const event of held) this.#write(event);
  }

  #write(event: MicrovmEvent): void {
    switch (event.type) {
      case 'starting': {
        const { vmm, image, poolSize } = event;
        this.#logger.info({ vmm, image, pool_size: poolSize }, 'Virtual machine manager starting');
        break;
      }
      case 'machine-started':
        this.#logger.info({ vmid: event.vmid, from: event.from }, 'Machine started');
        break;
      case 'handshake':
        this.#logger.info({ vmid: event.vmid, message: event.message, ms: event.ms }, 'Received agent handshake');
        break;
      case 'pooled':
        this.#logger.info({ vmid: event.vmid, pooled: event.pooled }, 'Adding new VM to warm pool');
        break;
      case 'claimed':
        this.#logger.debug({ vmid: event.vmid, workload: event.sandbox, warm: event.warm }, 'VM has a workload');
        break;
      case 'failed':
        this.#logger.warn({ err: event.error }, event.what);
        break;
    }
  }
}
