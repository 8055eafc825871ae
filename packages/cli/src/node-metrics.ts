import type { CacheService } from '@nex-nix/cache';
import type { Logger } from '@nex-nix/nexlet';
import type { LocalStore } from '@nex-nix/nix';
import { type Metric, MetricsServer, type Node, ProcessMetrics } from '@nex-nix/node';

/** Where a node listens for who wants its metrics. */
export interface MetricsOptions {
  /** Absent: nowhere. 0: a free one. */
  metricsPort?: number;
  metricsAddress: string;
}

/** What metrics are made of besides the process; each part comes when it is there. */
export interface MetricsParts {
  node?: Node;
  store?: LocalStore;
  cacheService?: CacheService;
}

/** Counts what was fetched for workloads, and serves the metrics of a node where its options say so. */
export class NodeMetrics implements AsyncDisposable {
  readonly #parts: MetricsParts = {};
  readonly #fetched = { paths: 0, bytes: 0 };
  readonly #stack = new AsyncDisposableStack();

  /** @throws {NodeError} NODE_METRICS_FAILED */
  static async start({ metricsPort, metricsAddress }: MetricsOptions, logger: Logger): Promise<NodeMetrics> {
    const metrics = new NodeMetrics();
    if (metricsPort === undefined) return metrics;
    await using stack = new AsyncDisposableStack();
    const ofProcess = stack.use(new ProcessMetrics());
    const server = stack.use(
      await MetricsServer.start({
        host: metricsAddress,
        port: metricsPort,
        collect: async () => [...ofProcess.collect(), ...(await metrics.#collect())],
        complaint: () => (metrics.#parts.node === undefined ? 'the node is starting' : metrics.#parts.node.complaint),
        logger,
      }),
    );
    metrics.#stack.use(stack.move());
    logger.info({ url: `${server.url}/metrics` }, 'metrics are served');
    return metrics;
  }

  /** From now on the metrics have this in them. */
  add(parts: MetricsParts): void {
    Object.assign(this.#parts, parts);
  }

  readonly onFetched = ({ paths, bytes }: { paths: number; bytes: number }): void => {
    this.#fetched.paths += paths;
    this.#fetched.bytes += bytes;
  };

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }

  async #collect(): Promise<Metric[]> {
    const { node, store, cacheService } = this.#parts;
    return [
      ...((await node?.metrics()) ?? []),
      ...fetchMetrics(this.#fetched),
      ...(store === undefined ? [] : storeMetrics(await store.size())),
      ...(cacheService === undefined ? [] : cacheMetrics(await cacheService.counts())),
    ];
  }
}

/** How much of something there is. */
interface Amount {
  readonly paths: number;
  readonly bytes: number;
}

/** What was fetched for workloads. */
export function fetchMetrics({ paths, bytes }: Amount): Metric[] {
  return [
    one('nex_closure_fetched_paths_total', 'counter', 'Store paths that were fetched for workloads.', paths),
    one('nex_closure_fetched_bytes_total', 'counter', 'Bytes of NARs that were fetched for workloads.', bytes),
  ];
}

/** What is in the store of the node. */
export function storeMetrics({ paths, bytes }: Amount): Metric[] {
  return [
    one('nex_store_paths', 'gauge', 'Valid paths in the store of the node.', paths),
    one('nex_store_nar_bytes', 'gauge', 'Bytes of the NARs of all valid paths in the store of the node.', bytes),
  ];
}

/** What the cache service of the node has answered. */
export function cacheMetrics(counts: Awaited<ReturnType<CacheService['counts']>>): Metric[] {
  const samples = (what: 'requests' | 'errors') =>
    counts.map((count) => ({ labels: { subject: count.subject }, value: count[what] }));
  return [
    {
      name: 'nex_cache_requests_total',
      help: 'Requests that the cache service of this node has answered.',
      type: 'counter',
      samples: samples('requests'),
    },
    {
      name: 'nex_cache_request_errors_total',
      help: 'Requests that the cache service of this node has answered with an error.',
      type: 'counter',
      samples: samples('errors'),
    },
  ];
}

// oxlint-disable-next-line max-params -- the parts of one line
function one(name: string, type: 'counter' | 'gauge', help: string, value: number): Metric {
  return { name, help, type, samples: [{ value }] };
}
