import type { NatsConnectionData } from '@nex-nix/protocol';
import { Attachment, type AttachmentOptions } from './attachment.ts';
import { Nexlet, type NexletOptions } from './nexlet.ts';
import type { NexletDefinition } from './nexlet-definition.ts';
import type { NexletError } from './nexlet-error.ts';

export interface RunNexletOptions extends NexletOptions {
  /** What the node gave to register with. */
  registration: NatsConnectionData;
  nodeId: string;
  nexus: string;
  /** The id that the node assigned. */
  agentId: string;
}

/** A nexlet at work. Disposing it closes the definition first, while its feeds still work, then its endpoints. */
export interface RunningNexlet extends AsyncDisposable {
  /** The id that its node assigned. */
  readonly agentId: string;
  readonly nodeId: string;
  /** Public curve key, `X…`. */
  readonly xkey: string;
  /** Resolves when the nexlet has ended: with the reason when it ended by itself, with undefined when it was disposed. */
  readonly closed: Promise<NexletError | undefined>;
}

/**
 * Registers a nexlet with the node in whose process it is, this project's or Go's, and serves it until disposed.
 *
 * @throws {NexletError} and what `definition.ready` throws; nothing is left running then
 */
export async function runNexlet(definition: NexletDefinition, options: RunNexletOptions): Promise<RunningNexlet> {
  return runAttached(new Nexlet(definition, options), options);
}

/** Runs a nexlet at one node, with which it ends. */
export async function runAttached(nexlet: Nexlet, options: AttachmentOptions): Promise<RunningNexlet> {
  let attachment: Attachment;
  try {
    attachment = await Attachment.open(nexlet, options);
  } catch (error) {
    await nexlet.close();
    throw error;
  }
  return new Attached(nexlet, attachment);
}

class Attached implements RunningNexlet {
  readonly agentId: string;
  readonly nodeId: string;
  readonly xkey: string;
  readonly closed: Promise<NexletError | undefined>;
  readonly #nexlet: Nexlet;
  readonly #attachment: Attachment;
  readonly #ended = Promise.withResolvers<undefined>();
  #disposed: Promise<void> | undefined;

  constructor(nexlet: Nexlet, attachment: Attachment) {
    this.agentId = attachment.agentId;
    this.nodeId = attachment.nodeId;
    this.xkey = nexlet.xkey.getPublicKey();
    this.#nexlet = nexlet;
    this.#attachment = attachment;
    this.closed = this.#close();
  }

  async #close(): Promise<NexletError | undefined> {
    const reason = await Promise.race([this.#attachment.lost, this.#ended.promise]);
    if (reason === undefined) return undefined;
    const { logger } = this.#nexlet;
    logger.error({ err: reason }, reason.message);
    try {
      await this[Symbol.asyncDispose]();
    } catch (error) {
      logger.error({ err: error }, 'the nexlet did not end well');
    }
    return reason;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#dispose();
    return this.#disposed;
  }

  async #dispose(): Promise<void> {
    try {
      await endNexlet(this.#nexlet, this.#attachment);
    } finally {
      this.#ended.resolve(undefined);
    }
  }
}

/** Tells the node, closes the definition while its feeds still work, then its endpoints. */
export async function endNexlet(nexlet: Nexlet, attachment: Attachment | undefined): Promise<void> {
  nexlet.state = 'stopping';
  await attachment?.announce();
  try {
    await nexlet.close();
  } finally {
    await attachment?.[Symbol.asyncDispose]();
  }
}
