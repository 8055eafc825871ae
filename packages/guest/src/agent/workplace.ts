import { chmodSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Cgroup } from './program/cgroup.ts';
import { CgroupTree } from './program/cgroup-tree.ts';
import { etcFiles } from './program/etc-files.ts';
import { Pipe } from './program/pipe.ts';
import { type Command, type OutputPipes, Program } from './program/program.ts';
import { ProgramRoot } from './program/program-root.ts';
import type { GuestConfig } from './guest-config.ts';
import type { Kernel } from './kernel/run-syscalls.ts';
import { SyscallList } from './kernel/syscall-list.ts';
import type { GuestLimits, Prepare } from '../protocol/messages.ts';

/** Where one program is to run, with all that does not depend on which one that is. */
export class Workplace {
  readonly root: ProgramRoot;
  readonly cgroup: Cgroup;
  readonly #options: WorkplaceOptions;
  readonly #pipes: OutputPipes;

  private constructor(options: WorkplaceOptions, made: { root: ProgramRoot; cgroup: Cgroup; pipes: OutputPipes }) {
    this.#options = options;
    this.root = made.root;
    this.cgroup = made.cgroup;
    this.#pipes = made.pipes;
  }

  static make(options: WorkplaceOptions): Workplace {
    const { config, kernel, folder } = options;
    const root = ProgramRoot.make({ config, kernel, folder });
    const cgroup = CgroupTree.open(kernel).make(`${basename(dirname(folder))}-${basename(folder)}`);
    const pipes = Pipe.make(kernel, { folder, name: 'program', streams: ['stdout', 'stderr'], ...config });
    return new Workplace(options, { root, cgroup, pipes });
  }

  /** Makes the rest of what the program will see. Throws GUEST_REFUSED. */
  async prepare(request: Prepare, { hosts, resolvConf, boot }: Identity): Promise<void> {
    const { uid, gid } = this.#options.config;
    await this.root.complete(request, { etc: etcFiles({ uid, gid, hosts, resolvConf }), boot });
  }

  /** Executes the program. Throws GUEST_REFUSED. */
  async start(command: Command, limits: GuestLimits): Promise<Program> {
    const { config, kernel, folder } = this.#options;
    this.cgroup.limit(limits);
    const { uid, gid } = config;
    const place = { kernel, folder, root: this.root.path, cgroup: this.cgroup, uid, gid };
    return Program.start(place, command, this.#pipes);
  }

  /** Lets go of it: nothing that is alive, and no mount, stays. */
  async discard(): Promise<void> {
    for (const pipe of Object.values(this.#pipes)) pipe.discard();
    await this.cgroup.remove();
    this.root.discard();
  }

  /**
   * Does all of it once, with a program that ends at once: what that takes is in memory then, and the agent's own code is
   * ready to run. Nothing stays.
   */
  static async rehearse(options: WorkplaceOptions): Promise<void> {
    const place = Workplace.make(options);
    await place.prepare({ type: 'prepare', closure: [], tmp: 1 << 20 }, { hosts: '', resolvConf: '', boot: '' });
    const file = join(place.root.path, 'tmp/true');
    writeFileSync(file, new SyscallList().call('exit_group', 0).executable());
    chmodSync(file, 0o755);
    const program = await place.start({ program: '/tmp/true', argv: [], environment: {} }, {});
    await program.ended;
    await place.discard();
  }
}

export interface WorkplaceOptions {
  config: GuestConfig;
  kernel: Kernel;
  /** Not there yet; its cgroup is named after it, too. */
  folder: string;
}

/** What a program is told of the guest. */
export interface Identity {
  /** Text of /etc/hosts and /etc/resolv.conf. */
  hosts: string;
  resolvConf: string;
  /** In place of the kernel's boot id, which guests of one snapshot share. */
  boot: string;
}
