// Writes nix-start-request.json beside this file, by which mk-nex-workload.nix checks what it is given: the schema that nodes
// check start requests by.
//
//   node --conditions=nexsrc nix/lib/write-schema.ts
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NixStartRequest } from '@nex-nix/nix-nexlet';

/** Of a file that this writes. */
export const SCHEMA = join(import.meta.dirname, 'nix-start-request.json');

/** What is to be in {@link SCHEMA}. */
export function schemaText(): string {
  return `${JSON.stringify(NixStartRequest, undefined, 2)}\n`;
}

if (import.meta.main) await writeFile(SCHEMA, schemaText());
