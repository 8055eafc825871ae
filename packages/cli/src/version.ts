import { readFileSync } from 'node:fs';

const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string };

/** Version of the nex command and of the node it runs; semantic versioning. */
export const VERSION = manifest.version;
