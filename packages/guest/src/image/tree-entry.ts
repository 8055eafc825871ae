/** One file or folder of an archive or image. The folders above it come by themselves. */
export type TreeEntry = {
  /** Path below the root, without a slash at either end. */
  name: string;
} & (
  | {
      /** Absolute path of a file or folder of this machine. A symbolic link is taken as the link it is, never followed. */
      source: string;
    }
  | { content: string | Uint8Array; executable?: boolean }
  | {
      /** Of a symbolic link. */
      target: string;
    }
  | { folder: true }
);

/** The folders above the entries, and the names sorted, each once; what an archive of them begins with. */
export function parentsOf(names: readonly string[]): string[] {
  const parents = new Set<string>();
  for (const name of names) {
    const parts = name.split('/');
    for (let depth = 1; depth < parts.length; depth++) parents.add(parts.slice(0, depth).join('/'));
  }
  return [...parents].sort();
}
