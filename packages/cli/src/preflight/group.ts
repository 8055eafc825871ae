/** What can be done about an item that is missing. */
export interface Remedy {
  /** Says what is going to be done: `apt-get install crun`. */
  readonly what: string;
  /** Resolves when it is done; rejects with what went wrong. */
  readonly run: (signal: AbortSignal) => Promise<void>;
}

/** One thing that a node needs, or can use. */
export interface Item {
  readonly name: string;
  readonly met: boolean;
  /** Nothing runs without it. Others only narrow what workloads can ask for. */
  readonly essential: boolean;
  /** Where it was found: a file, a version, an address. Or why it counts as missing. */
  readonly detail: string;
  /** What to do by hand when it is missing. */
  readonly hint?: string | undefined;
  readonly remedy?: Remedy | undefined;
}

/** Items that are looked for in the same places, in the order in which that happened. */
export interface Findings {
  /** Folders that were searched, each with what was found there. */
  readonly folders: readonly { readonly path: string; readonly items: readonly Item[] }[];
  /** Everything that is not in a folder, or missing. */
  readonly items: readonly Item[];
}

export interface Group {
  readonly title: string;
  /** Looks; may be called again after something was installed. Never rejects for what it finds. */
  readonly look: (signal: AbortSignal) => Promise<Findings>;
}

export function allItems({ folders, items }: Findings): Item[] {
  return [...folders.flatMap((folder) => folder.items), ...items];
}
