import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Metric } from './metric.ts';

/** How finely delays of the event loop are seen, in milliseconds: each step wakes the process. */
const RESOLUTION = 50;
const NANOSECONDS = 1e9;

/** What this process uses: memory, processor time, and how long its event loop keeps timers waiting. */
export class ProcessMetrics implements Disposable {
  readonly #delay = monitorEventLoopDelay({ resolution: RESOLUTION });

  constructor() {
    this.#delay.enable();
  }

  /** The delays are those since the last call. */
  collect(): Metric[] {
    const { user, system } = process.cpuUsage();
    const { rss, heapUsed } = process.memoryUsage();
    const gauge = (name: string, help: string, value: number): Metric => ({
      name,
      help,
      type: 'gauge',
      samples: [{ value }],
    });
    const metrics: Metric[] = [
      {
        name: 'process_cpu_seconds_total',
        help: 'Processor time of the node process.',
        type: 'counter',
        samples: [{ value: (user + system) / 1e6 }],
      },
      gauge('process_resident_memory_bytes', 'Resident memory of the node process.', rss),
      gauge('process_start_time_seconds', 'When the node process started, since 1970.', startTime()),
      gauge('nodejs_heap_size_used_bytes', 'JavaScript heap in use.', heapUsed),
      {
        name: 'nodejs_eventloop_delay_seconds',
        help: 'Delay of timers since the last scrape, by quantile.',
        type: 'gauge',
        samples: [50, 99, 100].map((percentile) => ({
          labels: { quantile: String(percentile / 100) },
          value: this.#delayAt(percentile),
        })),
      },
    ];
    this.#delay.reset();
    return metrics;
  }

  [Symbol.dispose](): void {
    this.#delay.disable();
  }

  /** The histogram holds the time between two of its steps; what is more than the step is delay. */
  #delayAt(percentile: number): number {
    return Math.max(0, this.#delay.percentile(percentile) / NANOSECONDS - RESOLUTION / 1_000);
  }
}

function startTime(): number {
  return Math.round(performance.timeOrigin) / 1_000;
}
