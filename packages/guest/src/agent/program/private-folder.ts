import { chmodSync, chownSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Files that a program's user can read, and nobody but the agent can change. */
export class PrivateFolder {
  readonly path: string;
  readonly #owner: { uid: number; gid: number };

  constructor(path: string, owner: { uid: number; gid: number }) {
    this.path = path;
    this.#owner = owner;
  }

  create(files: Readonly<Record<string, string>>): void {
    mkdirSync(this.path, { mode: 0o700 });
    for (const [name, content] of Object.entries(files)) this.replace(name, content);
    const { uid, gid } = this.#owner;
    chmodSync(this.path, 0o500);
    chownSync(this.path, uid, gid);
  }

  /** Whoever opens it finds the old or the new one. */
  replace(name: string, content: string): void {
    // Beside the folder: nobody sees it before it is whole, and no file of this name can be in the way.
    const temporary = `${this.path}.new`;
    writeFileSync(temporary, content, { mode: 0o400 });
    const { uid, gid } = this.#owner;
    chownSync(temporary, uid, gid);
    renameSync(temporary, join(this.path, name));
  }
}
