/** One file of a guest image. */
export interface ImageFile {
  /** Name in the image's folder. */
  file: string;
  /** In bytes. */
  size: number;
  /** Base16. */
  sha256: string;
}

/** `guest.json` in the folder of a guest image. */
export interface GuestManifest {
  version: 1;
  kind: 'minimal' | 'nixos';
  /** `x86_64-linux`, `aarch64-linux`. */
  system: string;
  /** Version of the agent in it. */
  agent: string;
  /** Versions of the protocol that it speaks. */
  protocol: number[];
  /** Uncompressed ELF (`vmlinux`) on x86-64: what QEMU's microvm and Firecracker boot fastest. */
  kernel: ImageFile;
  initrd: ImageFile;
  /** erofs; the guest's first disk. */
  root: ImageFile;
  /** Words for the kernel that hold with every VMM and machine. */
  commandLine: string;
  /** Store paths that the image holds, with the NAR hash in SRI syntax where it is known; closure disks leave them out. */
  storePaths: { storePath: string; narHash?: string }[];
}

export const MANIFEST_FILE = 'guest.json';

const SHA256 = /^[0-9a-f]{64}$/;
const SYSTEM = /^(?:x86_64|aarch64)-linux$/;
const STORE_PATH = /^\/nix\/store\/[0-9a-z]{32}-[0-9A-Za-z+\-._?=]+$/;
const NAR_HASH = /^sha(?:256|512)-[A-Za-z0-9+/]+=*$/;
/** One line of printable ASCII, as the kernel takes it. */
const COMMAND_LINE = /^[ -~]{0,1024}$/;
/** The name of a file in the image's own folder. */
const FILE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/** Reads a manifest strictly. `fail` makes the error out of what is wrong with it. */
export function parseManifest(text: string, fail: (why: string) => Error): GuestManifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw fail('it is not JSON');
  }
  const demand = (holds: boolean, what: string): void => {
    if (!holds) throw fail(what);
  };
  const fields = (of: unknown, names: readonly string[], where: string): Record<string, unknown> => {
    if (typeof of !== 'object' || of === null || Array.isArray(of)) throw fail(`${where} is not an object`);
    const unknown = Object.keys(of).find((key) => !names.includes(key));
    demand(unknown === undefined, `${where} has an unknown field "${unknown}"`);
    return of as Record<string, unknown>;
  };
  const matching = (of: unknown, pattern: RegExp, where: string): string => {
    if (typeof of !== 'string' || !pattern.test(of)) throw fail(`${where} makes no sense`);
    return of;
  };
  const file = (of: unknown, where: string): ImageFile => {
    const image = fields(of, ['file', 'size', 'sha256'], where);
    const { size } = image;
    if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 1)
      throw fail(`the size of ${where} makes no sense`);
    return {
      file: matching(image['file'], FILE_NAME, `the name of ${where}`),
      size,
      sha256: matching(image['sha256'], SHA256, `the SHA-256 of ${where}`),
    };
  };

  const of = fields(value, FIELDS, 'it');
  demand(of['version'] === 1, `its version is ${JSON.stringify(of['version'])}, this program knows 1`);
  const { kind, protocol, storePaths } = of;
  if (kind !== 'minimal' && kind !== 'nixos') throw fail('"kind" makes no sense');
  if (!Array.isArray(protocol) || !protocol.every((version): version is number => Number.isSafeInteger(version))) {
    throw fail('"protocol" makes no sense');
  }
  if (!Array.isArray(storePaths)) throw fail('"storePaths" is not a list');
  return {
    version: 1,
    kind,
    system: matching(of['system'], SYSTEM, '"system"'),
    agent: matching(of['agent'], /^[ -~]{1,64}$/, '"agent"'),
    protocol,
    kernel: file(of['kernel'], '"kernel"'),
    initrd: file(of['initrd'], '"initrd"'),
    root: file(of['root'], '"root"'),
    commandLine: matching(of['commandLine'], COMMAND_LINE, '"commandLine"'),
    storePaths: storePaths.map((entry) => {
      const { storePath, narHash } = fields(entry, ['storePath', 'narHash'], 'a store path');
      const known = { storePath: matching(storePath, STORE_PATH, 'a store path') };
      return narHash === undefined
        ? known
        : { ...known, narHash: matching(narHash, NAR_HASH, 'the hash of a store path') };
    }),
  };
}

const FIELDS: readonly (keyof GuestManifest)[] = [
  'version',
  'kind',
  'system',
  'agent',
  'protocol',
  'kernel',
  'initrd',
  'root',
  'commandLine',
  'storePaths',
];
