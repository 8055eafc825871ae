export { openBinaryCache } from './binary-cache.ts';
export type { BinaryCache, BinaryCacheOptions, CacheInfo } from './binary-cache.ts';
export { copyClosure } from './copy-closure.ts';
export type { CopyClosureOptions, CopyProgress, CopyResult } from './copy-closure.ts';
export { dumpNar } from './dump-nar.ts';
export { narHashOf, parseNarHash } from './hash.ts';
export type { NarHash } from './hash.ts';
export { resolveInstallable } from './installable.ts';
export type { ResolvedInstallable, ResolveInstallableOptions } from './installable.ts';
export { LocalStore } from './local-store.ts';
export type { AddOptions, LocalStoreOptions } from './local-store.ts';
export { formatNarInfo, parseNarInfo } from './narinfo.ts';
export { decodeNixBase32, encodeNixBase32 } from './nixbase32.ts';
export { NixError } from './nix-error.ts';
export type { NixErrorCode, NixErrorOptions } from './nix-error.ts';
export { NixStore } from './nix-store.ts';
export type { NixStoreOptions } from './nix-store.ts';
export { fingerprint } from './path-info.ts';
export type { NarInfo, PathInfo, SignalOptions } from './path-info.ts';
export { queryClosure } from './path-source.ts';
export type { PathSource } from './path-source.ts';
export { readNar } from './read-nar.ts';
export type { NarEvent } from './read-nar.ts';
export {
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  parsePublicKey,
  parseSecretKey,
  publicKeyOf,
  signPathInfo,
} from './signing-key.ts';
export type { PublicKey, SecretKey } from './signing-key.ts';
export {
  parseStorePath,
  splitStorePath,
  STORE_DIR,
  type StorePath,
  storePathBaseName,
  storePathFromBaseName,
  storePathHash,
  storePathName,
  storePathPackageName,
} from './store-path.ts';
export { checkTrust, requireTrust } from './trust.ts';
export type { Trust } from './trust.ts';
export { unpackNar } from './unpack-nar.ts';
export type { UnpackNarOptions } from './unpack-nar.ts';
