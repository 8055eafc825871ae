/** One measured value of a metric. */
export interface Sample {
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number;
  /** What of a summary it is; absent: the value itself. */
  readonly part?: 'sum' | 'count';
}

/** A metric as Prometheus has it: base units, counters end in `_total`. */
export interface Metric {
  /** `[a-z][a-z0-9_]*`. */
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'summary';
  readonly samples: readonly Sample[];
}

/** The content type of {@link formatMetrics}. */
export const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/**
 * Metrics as text that Prometheus reads; those without samples are left out, those of one name are put together.
 * Format: https://prometheus.io/docs/instrumenting/exposition_formats/, text format 0.0.4.
 */
export function formatMetrics(metrics: readonly Metric[]): string {
  const lines: string[] = [];
  for (const [name, same] of Map.groupBy(metrics, (metric) => metric.name)) {
    const samples = same.flatMap((metric) => metric.samples);
    const [first] = same;
    if (first === undefined || samples.length === 0) continue;
    lines.push(`# HELP ${name} ${escapeHelp(first.help)}`, `# TYPE ${name} ${first.type}`);
    for (const sample of samples) lines.push(sampleLine(name, sample));
  }
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}

function sampleLine(name: string, { labels = {}, value, part }: Sample): string {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escapeLabel(text)}"`);
  const shown = pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
  return `${part === undefined ? name : `${name}_${part}`}${shown} ${formatValue(value)}`;
}

function formatValue(value: number): string {
  if (Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? 'NaN' : value > 0 ? '+Inf' : '-Inf';
}

function escapeHelp(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

function escapeLabel(text: string): string {
  return escapeHelp(text).replaceAll('"', '\\"');
}
