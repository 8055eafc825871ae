// Builder of echo.nix: the bundle becomes a program by a first line that names its Node.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';

const { out, nodejs, bundle } = process.env;
mkdirSync(`${out}/bin`, { recursive: true });
writeFileSync(`${out}/bin/echo`, `#!${nodejs}/bin/node\n${readFileSync(bundle, 'utf8')}`, { mode: 0o555 });
