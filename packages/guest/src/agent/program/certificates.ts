import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import type { GuestStorePath } from '../../protocol/messages.ts';

/** Store paths of nixpkgs that hold the certificates of authorities: `cacert`, and its newer name `nss-cacert`. */
const NAME = /^\/nix\/store\/[^/-]+-(?:nss-)?cacert(?:-|$)/;

const BUNDLE = 'etc/ssl/certs/ca-bundle.crt';

/** Where Debian's, NixOS' and most other programs look for them, below the root. */
const LINKS = ['etc/ssl/certs/ca-bundle.crt', 'etc/ssl/certs/ca-certificates.crt'];

/** Links to make in the root, with their targets, when the closure has the certificates of authorities. */
export function certificateLinks(
  closure: readonly GuestStorePath[],
  sourceOf: (path: GuestStorePath) => string,
): [link: string, target: string][] {
  const found = closure.find(
    (path) => NAME.test(path.storePath) && lstatSync(join(sourceOf(path), BUNDLE), { throwIfNoEntry: false })?.isFile(),
  );
  return found === undefined ? [] : LINKS.map((link) => [link, `${found.storePath}/${BUNDLE}`]);
}
