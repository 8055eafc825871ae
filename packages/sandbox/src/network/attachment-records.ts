import { existsSync } from 'node:fs';
import { link, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno } from '../file-errors.ts';
import type { NetworkConfig, NetworkResult } from './cni-network.ts';

/** How a sandbox is, or was about to be, connected: all that another process needs to take it back. */
export interface AttachmentRecord {
  version: 1;
  /** Tells sandboxes of all state folders of this machine apart: {@link containerId}. */
  containerId: string;
  /** The sandbox' id; of a virtual machine that is not connected, its own. */
  id: string;
  /** Folder of the runtime; absent in records of earlier versions. */
  stateDir?: string;
  /** Name of our bridge; undefined when the network is the operator's. */
  bridge?: string;
  /** Absent as long as there is a namespace and no more: it will be connected later. */
  config?: NetworkConfig;
  ports: readonly number[];
  /** Present once the plugins have done their work. */
  result?: NetworkResult;
}

/**
 * What is connected on this machine, by whatever process: in a folder that does not outlive the machine, as what it tells
 * of does not either. A record is written before anything is made and removed after everything is taken back.
 */
export class AttachmentRecords {
  readonly #folder: string;
  readonly #ports: string;

  constructor(runDir: string) {
    this.#folder = join(runDir, 'attachments');
    this.#ports = join(runDir, 'ports');
  }

  has(containerId: string): boolean {
    return existsSync(this.#file(containerId));
  }

  async read(containerId: string): Promise<AttachmentRecord | undefined> {
    const text = await readOrUndefined(this.#file(containerId));
    return text === undefined ? undefined : parseRecord(text);
  }

  /** Whoever reads it meanwhile finds the old or the new one. */
  async write(record: AttachmentRecord): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const draft = join(this.#folder, `.${record.containerId}`);
    await writeFile(draft, `${JSON.stringify(record)}\n`, { mode: 0o600 });
    await rename(draft, this.#file(record.containerId));
  }

  /** When it was written last, in milliseconds of the Unix epoch; undefined when there is none. */
  async writtenAt(containerId: string): Promise<number | undefined> {
    try {
      return (await stat(this.#file(containerId))).mtimeMs;
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return undefined;
      throw error;
    }
  }

  async remove(containerId: string): Promise<void> {
    await rm(this.#file(containerId), { force: true });
  }

  /** Container ids of all records, whoever wrote them. */
  async ids(): Promise<string[]> {
    const names = await namesIn(this.#folder);
    return names.filter((name) => name.endsWith('.json') && !name.startsWith('.')).map((name) => name.slice(0, -5));
  }

  /** Container ids of those at one bridge of ours. */
  async at(bridge: string): Promise<string[]> {
    const records = await Promise.all((await this.ids()).map((containerId) => this.read(containerId)));
    return records.flatMap((record) => (record?.bridge === bridge ? [record.containerId] : []));
  }

  /**
   * Takes a port of this machine for a container. Gives the container that has it otherwise. A claim whose container has
   * no record is what a killed process has left.
   */
  async claim(port: number, containerId: string): Promise<string | undefined> {
    await mkdir(this.#ports, { recursive: true, mode: 0o700 });
    const file = join(this.#ports, String(port));
    const draft = join(this.#ports, `.${containerId}`);
    await writeFile(draft, containerId, { mode: 0o600 });
    try {
      while (!(await linked(draft, file))) {
        const owner = await readOrUndefined(file);
        if (owner === containerId) return undefined;
        if (owner !== undefined && (await this.read(owner)) !== undefined) return owner;
        await rm(file, { force: true });
      }
    } finally {
      await rm(draft, { force: true });
    }
    return undefined;
  }

  /** Gives all ports of a container back. */
  async release(containerId: string): Promise<void> {
    for (const port of await namesIn(this.#ports)) {
      const file = join(this.#ports, port);
      if ((await readOrUndefined(file)) === containerId) await rm(file, { force: true });
    }
  }

  #file(containerId: string): string {
    return join(this.#folder, `${containerId}.json`);
  }
}

/** Unlike a new file that is then written to, a link appears with its content. False when there is one of that name. */
async function linked(file: string, name: string): Promise<boolean> {
  try {
    await link(file, name);
    return true;
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) return false;
    throw error;
  }
}

function parseRecord(text: string): AttachmentRecord | undefined {
  try {
    const record = JSON.parse(text) as AttachmentRecord;
    return record.version === 1 ? record : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

async function readOrUndefined(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}
