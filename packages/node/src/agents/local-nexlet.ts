import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { localEnvironment } from '@nex-nix/nexlet';
import { newId } from '@nex-nix/protocol';
import type { NodeContext } from '../node-context.ts';
import { type LocalNexletSpec, programPath } from './local-program.ts';
import { killGroup, type ProcessMarks } from './process-marks.ts';

const GRACE = 10_000;
/** How long it may take to end after SIGTERM, in milliseconds. */
const TERM_GRACE = 3_000;
const FIRST_WAIT = 250;
const LONGEST_WAIT = 30_000;
/** A nexlet that ran for so long was well: its next end counts as the first one. */
const STABLE = 60_000;
/** How long a start waits for it to be healthy, in milliseconds. */
const HEALTHY_TIMEOUT = 10_000;

export interface LocalNexletOptions {
  spec: LocalNexletSpec;
  /** How often it is started again before it is given up. */
  restartLimit: number;
  marks: ProcessMarks;
}

/**
 * A nexlet that runs as a process of its own, in a process group of its own. When it ends it is started again under the
 * same id, later each time; one that ends too often is given up. Disposing of it ends the whole group.
 */
export class LocalNexlet implements AsyncDisposable {
  readonly agentId = newId();
  readonly #node: NodeContext;
  readonly #options: LocalNexletOptions;
  readonly #path: string;
  readonly #ending = new AbortController();
  readonly #givenUp = new AbortController();
  readonly #supervising: Promise<void>;
  #child: ChildProcess | undefined;

  private constructor(node: NodeContext, path: string, options: LocalNexletOptions) {
    this.#node = node;
    this.#path = path;
    this.#options = options;
    this.#supervising = this.#supervise();
  }

  /**
   * Starts the process.
   *
   * @throws {NodeError} NODE_LOCAL_NEXLET_INVALID
   */
  static async start(node: NodeContext, options: LocalNexletOptions): Promise<LocalNexlet> {
    return new LocalNexlet(node, await programPath(options.spec), options);
  }

  /** Waits until it is healthy; not for ever, and not once it is given up. What is amiss goes into the log. */
  async untilHealthy(signal: AbortSignal): Promise<void> {
    const patience = AbortSignal.timeout(HEALTHY_TIMEOUT);
    try {
      const stop = AbortSignal.any([signal, patience, this.#givenUp.signal, this.#ending.signal]);
      await this.#node.registry.untilHealthy(this.agentId, stop);
    } catch (error) {
      signal.throwIfAborted();
      if (!patience.aborted && !this.#givenUp.signal.aborted && !this.#ending.signal.aborted) throw error;
      this.#log('error', 'a local nexlet does not become healthy; the node goes on without it');
    }
  }

  /** Ends the whole group at once. */
  kill(): void {
    this.#ending.abort();
    const pid = this.#child?.pid;
    if (pid !== undefined) killGroup(pid, 'SIGKILL');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    if (this.#child !== undefined) await this.#endChild(this.#child);
    await this.#supervising;
  }

  async #supervise(): Promise<void> {
    for (let failures = 1; ; failures++) {
      const started = performance.now();
      const why = await this.#runOnce();
      if (this.#ending.signal.aborted) return;
      if (performance.now() - started > STABLE) failures = 1;
      if (failures > this.#options.restartLimit) {
        this.#node.nexletEnded(this.agentId, why);
        this.#log('error', 'a local nexlet is given up', { why, starts: failures });
        this.#givenUp.abort();
        return;
      }
      this.#node.nexletLost(this.agentId, why);
      const wait = Math.min(FIRST_WAIT * 2 ** (failures - 1), LONGEST_WAIT);
      this.#log('warn', 'a local nexlet has ended and is started again', { why, inMs: wait });
      await delay(wait, undefined, { signal: this.#ending.signal }).catch(() => undefined);
      if (this.#ending.signal.aborted) return;
    }
  }

  /** Runs the process to its end; says how it ended. */
  async #runOnce(): Promise<string> {
    const { agentId } = this;
    const { id: nodeId, nexus, minter } = this.#node;
    const { spec, marks } = this.#options;
    try {
      const registration = await minter.registration({ nodeId, nexus, agentId });
      if (this.#ending.signal.aborted) return 'the node ends';
      // Nothing of the node's own environment.
      const env = { ...spec.env, ...localEnvironment({ nodeId, nexus, agentId, registration }) };
      const child = spawn(this.#path, [...(spec.argv ?? [])], {
        env,
        detached: true,
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      const ended = once(child, 'close');
      this.#child = child;
      this.#logLines(child.stdout, 'info');
      this.#logLines(child.stderr, 'error');
      await once(child, 'spawn');
      if (child.pid !== undefined) await marks.add(agentId, child.pid);
      this.#log('info', 'local nexlet started', { pid: child.pid });
      await ended;
      // What it had started may outlive it.
      if (child.pid !== undefined) killGroup(child.pid, 'SIGKILL');
      await marks.remove(agentId);
      return child.signalCode === null ? `exit code ${child.exitCode}` : `signal ${child.signalCode}`;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    } finally {
      this.#child = undefined;
    }
  }

  async #endChild(child: ChildProcess): Promise<void> {
    const { pid } = child;
    if (pid === undefined) return;
    const steps = [
      ['SIGINT', this.#options.spec.graceMs ?? GRACE],
      ['SIGTERM', TERM_GRACE],
      ['SIGKILL', undefined],
    ] as const;
    for (const [signal, grace] of steps) {
      if (child.exitCode !== null || child.signalCode !== null) break;
      killGroup(pid, signal);
      const patience = new AbortController();
      const exited = once(child, 'exit').then(() => patience.abort());
      if (grace === undefined) await exited;
      else await delay(grace, undefined, { signal: patience.signal }).catch(() => undefined);
    }
    killGroup(pid, 'SIGKILL');
  }

  #logLines(stream: Readable, level: 'info' | 'error'): void {
    createInterface({ input: stream }).on('line', (line) => this.#log(level, line));
  }

  #log(level: 'info' | 'warn' | 'error', message: string, fields: object = {}): void {
    this.#node.logger[level]({ localNexlet: this.#options.spec.uri, agentId: this.agentId, ...fields }, message);
  }
}
