/**
 * What becomes of the machines of a runtime, for whoever keeps the log of a node. Callbacks are called at once and must not
 * throw.
 */
export type MicrovmEvent =
  /** The runtime is open and begins to fill its pool. */
  | { readonly type: 'starting'; readonly vmm: string; readonly image: string; readonly poolSize: number }
  /** A VMM runs with a guest in it that boots, or goes on from a template. */
  | { readonly type: 'machine-started'; readonly vmid: string; readonly from: 'boot' | 'template' }
  /** The agent of a guest has answered `hello`. `message`: the agent's version and the guest's, in a few words. */
  | { readonly type: 'handshake'; readonly vmid: string; readonly message: string; readonly ms: number }
  /** A guest with a ready agent waits for its workload. */
  | { readonly type: 'pooled'; readonly vmid: string; readonly pooled: number }
  /** A guest out of the pool, or one that was booted for it, has a workload now. */
  | { readonly type: 'claimed'; readonly vmid: string; readonly sandbox: string; readonly warm: boolean }
  /** Something that nobody waits for went wrong: the pool could not be filled, a template could not be taken. It is tried again. */
  | { readonly type: 'failed'; readonly what: string; readonly error: unknown };
