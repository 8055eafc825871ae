import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { promisify } from 'node:util';
import { AgentConnection, type AgentRequest } from './agent-connection.ts';
import type { GuestConfig } from './guest-config.ts';
import { identify, newBootId, setClock } from './identity.ts';
import { Kernel } from './kernel/run-syscalls.ts';
import { findInterface, traffic } from './network/interface.ts';
import { endMachine } from './power.ts';
import type { Program } from './program/program.ts';
import { refused } from './refused.ts';
import { Workplace, type WorkplaceOptions } from './workplace.ts';
import type { Exec, GuestState, Identify, OutputStream, Prepare, Start, UsageAnswer } from '../protocol/messages.ts';

/** Put in by the bundler. */
const VERSION = process.env['NEX_GUEST_AGENT_VERSION'] ?? '0.0.0';

/** What a guest is asked for, done: one program in its life, from `identify` on. */
export class Agent {
  readonly #config: GuestConfig;
  /** For what it makes; nobody else can go there. */
  readonly #folder: string;
  readonly #kernel: Kernel;
  readonly #connection: AgentConnection;
  #boot = newBootId();
  #state: GuestState = 'idle';
  #names = { hosts: '', resolvConf: '' };
  #workplace: Workplace | undefined;
  #workplaces = 0;
  #program: Program | undefined;
  #stream: Duplex | undefined;
  /** Ends when all is done that takes the guest from one state to the next. */
  #steps: Promise<unknown> = Promise.resolve();

  constructor(config: GuestConfig) {
    this.#config = config;
    mkdirSync(config.runDir, { recursive: true, mode: 0o700 });
    // An agent before us may have left something.
    this.#folder = mkdtempSync(join(config.runDir, 'agent-'));
    this.#kernel = new Kernel(this.#folder);
    this.#connection = new AgentConnection({
      version: VERSION,
      describe: () => ({ boot: this.#boot, state: this.#state }),
      handle: (request, { signal }) => this.#handle(request, signal),
    });
  }

  /** Serves a host over this channel until it ends. */
  async attach(stream: Duplex): Promise<void> {
    this.#stream = stream;
    await this.#connection.attach(stream);
  }

  #handle(request: AgentRequest, signal: AbortSignal): unknown {
    switch (request.type) {
      case 'identify':
        return this.#step('idle', async () => this.#identify(request));
      case 'prepare':
        return this.#step('idle', () => this.#prepare(request));
      case 'start':
        return this.#step('prepared', () => this.#start(request));
      case 'settle':
        return this.#step('idle', () => this.#settle());
      case 'signal':
        return this.#running('send a signal').signal(request.signal);
      case 'kill':
        return this.#kill();
      case 'exec':
        return this.#exec(request, signal);
      case 'replace':
        return this.#replace(request);
      case 'usage':
        return this.#usage();
      case 'clock':
        return setClock(this.#kernel, request.time);
      case 'ping':
        return undefined;
      case 'shutdown':
        setImmediate(() => void endMachine(this.#kernel, { config: this.#config, stream: this.#stream }));
        return undefined;
    }
  }

  /** Steps are taken one at a time, and each only from the state that it belongs to. */
  #step<T>(from: GuestState, step: () => Promise<T>): Promise<T> {
    const result = this.#steps.then(() => {
      if (this.#state !== from) throw refused('invalid', `the guest is ${this.#state}, and not ${from}`);
      return step();
    });
    this.#steps = result.catch(() => undefined);
    return result;
  }

  get #place(): Workplace {
    this.#workplace ??= Workplace.make(this.#newPlace('program'));
    return this.#workplace;
  }

  #newPlace(purpose: string): WorkplaceOptions {
    const folder = join(this.#folder, `${purpose}-${this.#workplaces++}`);
    return { config: this.#config, kernel: this.#kernel, folder };
  }

  #identify(request: Identify): void {
    identify(this.#kernel, request);
    this.#names = { hosts: request.hosts, resolvConf: request.resolvConf };
    this.#boot = newBootId();
  }

  async #prepare(request: Prepare): Promise<void> {
    try {
      await this.#place.prepare(request, { ...this.#names, boot: this.#boot });
      this.#state = 'prepared';
    } catch (error) {
      // Half of it is made. The next attempt begins anew.
      await this.#workplace?.discard();
      this.#workplace = undefined;
      throw error;
    }
  }

  async #start({ limits, stdin, ...command }: Start): Promise<void> {
    const input = stdin === undefined ? undefined : Buffer.from(stdin, 'base64');
    this.#program = await this.#place.start({ ...command, stdin: input }, limits);
    this.#state = 'running';
    // Not before the answer: the host learns first that it runs.
    setImmediate(() => void this.#follow(this.#program));
  }

  async #follow(program: Program | undefined): Promise<void> {
    if (program === undefined) return;
    const [exit] = await Promise.all([program.ended, this.#pump(program, 'stdout'), this.#pump(program, 'stderr')]);
    this.#state = 'exited';
    this.#connection.exited(exit);
  }

  async #pump(program: Program, stream: OutputStream): Promise<void> {
    for await (const bytes of program.output[stream]) await this.#connection.write(stream, bytes as Buffer);
  }

  async #settle(): Promise<void> {
    // What every program needs is made before there is one.
    void this.#place;
    await Workplace.rehearse(this.#newPlace('rehearsal'));
    // What many programs begin with.
    await promisify(execFile)(process.execPath, ['-e', '0']);
  }

  #running(what: string): Program {
    if (this.#program === undefined) throw refused('invalid', `Cannot ${what}: no program was started`);
    return this.#program;
  }

  async #kill(): Promise<void> {
    // One that is just being started is one, too.
    await this.#steps;
    await this.#program?.kill();
  }

  async #exec({ program, argv, environment }: Exec, signal: AbortSignal) {
    return this.#running('run a command').exec({ program, argv, environment }, signal);
  }

  #replace({ name, content }: { name: string; content: string }): { replaced: boolean } {
    const folder = this.#state === 'idle' ? undefined : this.#place.root.privateFolder;
    folder?.replace(name, content);
    return { replaced: folder !== undefined };
  }

  #usage(): UsageAnswer {
    const device = findInterface();
    const used = this.#program === undefined ? {} : this.#place.cgroup.usage();
    return { ...used, ...(device !== undefined && { network: traffic(device) }) };
  }
}
