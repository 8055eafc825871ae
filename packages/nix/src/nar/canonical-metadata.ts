import { chmodSync, utimesSync } from 'node:fs';

/** Modification time of everything in a store, in seconds since 1970. */
export const MTIME = 1;

/** Gives a directory, once everything is in it, the metadata that Nix gives: mode 0555, modification time 1. */
export function sealDirectory(path: string | Buffer): void {
  chmodSync(path, 0o555);
  utimesSync(path, MTIME, MTIME);
}
