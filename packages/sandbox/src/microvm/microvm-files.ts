import { existsSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readLine, SandboxFolder } from '../sandbox-folder.ts';
import type { ClosurePath, Exit, SandboxRecord } from '../sandbox.ts';
import type { VmRecord } from '../vmm/vmm.ts';

/** What a sandbox has of the machine that it runs in. */
export interface MachineRecord {
  version: 1;
  vm: VmRecord;
  /** Store paths on its closure disk; empty: it has none. */
  disk: readonly ClosurePath[];
  /** Bytes a second of each output stream. */
  logRate?: number;
  /** Whether it is connected to the network `bridge`. */
  connected: boolean;
}

/**
 * The folder of one sandbox in a VM: its logs, and a few files that tell a later process what became of it. Whoever was
 * killed between two of them has left a sandbox that is taken for what the first says.
 */
export class MicrovmFiles extends SandboxFolder {
  constructor(stateDir: string, id: string) {
    super(stateDir, id, 'microvm');
  }

  make(record: SandboxRecord): void {
    this.makeFolder(record, 0o700);
  }

  /** The machine that belongs to this sandbox. From then on it is nobody else's, and outlives this process. */
  async machine(): Promise<MachineRecord | undefined> {
    const record = await this.#read<MachineRecord>('machine.json');
    return record?.version === 1 ? record : undefined;
  }

  keepMachine(record: MachineRecord): void {
    this.#write('machine.json', record);
  }

  /** Whether its program was asked to be executed. */
  get started(): boolean {
    return existsSync(join(this.folder, 'started'));
  }

  markStarted(): void {
    writeFileSync(join(this.folder, 'started'), '', { mode: 0o600 });
  }

  /** Present once its program has ended and its logs are complete. */
  async exit(): Promise<Exit | undefined> {
    return this.#read<Exit>('exit.json');
  }

  keepExit(exit: Exit): void {
    this.#write('exit.json', exit);
  }

  async #read<T>(name: string): Promise<T | undefined> {
    const line = await readLine(join(this.folder, name));
    return line === undefined ? undefined : (JSON.parse(line) as T);
  }

  #write(name: string, value: MachineRecord | Exit): void {
    const draft = join(this.folder, `${name}.draft`);
    writeFileSync(draft, `${JSON.stringify(value)}\n`, { mode: 0o600 });
    renameSync(draft, join(this.folder, name));
  }
}
