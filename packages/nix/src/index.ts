export { openBinaryCache } from './binary-cache/binary-cache.ts';
export type { BinaryCache, BinaryCacheOptions, CacheInfo } from './binary-cache/binary-cache.ts';
export type { AuthorizationOptions } from './binary-cache/authorization.ts';
export { compressor } from './binary-cache/compress.ts';
export type { CompressionSettings } from './binary-cache/compress.ts';
export { decompress } from './binary-cache/decompress.ts';
export type { DecompressOptions } from './binary-cache/decompress.ts';
export { openSubstituters } from './binary-cache/substituters.ts';
export type { Substituters, SubstitutersOptions } from './binary-cache/substituters.ts';
export { copyClosure } from './closure/copy-closure.ts';
export type { CopyClosureOptions, CopyProgress, CopyResult } from './closure/copy-closure.ts';
export { dumpNar } from './nar/dump-nar.ts';
export { fileChunks } from './nar/file-chunks.ts';
export type { NarOptions } from './nar/nar-options.ts';
export { NarRanges } from './nar/nar-ranges.ts';
export type { NarRangesOptions } from './nar/nar-ranges.ts';
export { narOf } from './nar/nar-of.ts';
export type { NarTree, NarTreeDirectory, NarTreeFile, NarTreeSymlink } from './nar/nar-of.ts';
export { formatNarListing, listNar, parseNarListing } from './nar/nar-listing.ts';
export type {
  NarListing,
  NarListingDirectory,
  NarListingFile,
  NarListingNode,
  NarListingSymlink,
} from './nar/nar-listing.ts';
export { contentAddressedPath, formatContentAddress, parseContentAddress } from './formats/content-address.ts';
export type { ContentAddress, ContentAddressMethod, ContentReferences } from './formats/content-address.ts';
export { contentCheck } from './nar/content-check.ts';
export type { ContentCheck } from './nar/content-check.ts';
export { formatHash, narHashOf, parseHash, parseNarHash } from './formats/hash.ts';
export type { Hash, HashAlgorithm, HashFormat, NarHash } from './formats/hash.ts';
export { resolveInstallable } from './nix-store/installable.ts';
export type { ResolvedInstallable, ResolveInstallableOptions } from './nix-store/installable.ts';
export { tryLock } from './local-store/process-lock.ts';
export { LocalStore } from './local-store/local-store.ts';
export type { LocalStoreOptions } from './local-store/local-store.ts';
export type { Damage } from './local-store/check-path.ts';
export type { CollectGarbageOptions, GarbageCollection } from './local-store/garbage-collection.ts';
export type { DamagedPath, VerifyOptions, VerifyProgress, VerifyReport } from './local-store/verification.ts';
export { formatNarInfo, parseNarInfo } from './formats/narinfo.ts';
export { decodeNixBase32, encodeNixBase32 } from './formats/nixbase32.ts';
export { NixError } from './nix-error.ts';
export type { NixErrorCode, NixErrorOptions } from './nix-error.ts';
export { NixStore } from './nix-store/nix-store.ts';
export type { NixStoreOptions, NixStoreReader } from './nix-store/nix-store.ts';
export { fingerprint } from './formats/path-info.ts';
export type { NarInfo, PathInfo } from './formats/path-info.ts';
export type { SignalOptions } from './abortable.ts';
export { queryClosure } from './closure/path-source.ts';
export { publish } from './closure/publish.ts';
export type { Publication, PublishOptions } from './closure/publish.ts';
export type { AddOptions, PathSource, PathStore } from './closure/path-source.ts';
export { NarHasher } from './nar/nar-hasher.ts';
export { NarParser } from './nar/nar-parser.ts';
export type { NarParserOptions, NarVisitor } from './nar/nar-parser.ts';
export { readNar } from './nar/read-nar.ts';
export type { NarEvent } from './nar/read-nar.ts';
export {
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  parsePublicKey,
  parseSecretKey,
  publicKeyOf,
  signPathInfo,
} from './formats/signing-key.ts';
export type { PublicKey, SecretKey } from './formats/signing-key.ts';
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
} from './formats/store-path.ts';
export { checkTrust, requireTrust } from './formats/trust.ts';
export type { Trust } from './formats/trust.ts';
export { unpackNar } from './nar/unpack-nar.ts';
export type { UnpackNarOptions } from './nar/unpack-nar.ts';
