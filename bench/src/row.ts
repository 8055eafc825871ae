/** One measurement of the table that `npm run bench` prints. */
export interface Row {
  readonly id: string;
  readonly what: string;
  readonly unit: 'ms' | 's' | 'MiB' | 'bytes' | '%';
  /** What it is measured against in the same run; absent: `wanted` bounds the value itself. */
  readonly peer?: string;
  /** Upper bound on value / peerValue, or on the value where there is no peer. */
  readonly wanted: number;
  measure(): Promise<Measurement>;
}

export interface Measurement {
  /** One figure a run; the median counts. */
  readonly values: readonly number[];
  /** The peer's figures, taken in turn with the values. */
  readonly peerValues?: readonly number[];
  /** Where the time goes, or what else is worth knowing; printed below the table. */
  readonly notes?: readonly string[];
}

/** What `--json` writes for each row. */
export interface Outcome {
  readonly id: string;
  readonly value: number;
  readonly unit: string;
  readonly peer: string | null;
  readonly peerValue: number | null;
  readonly ratio: number | null;
  readonly wanted: number;
  readonly met: boolean;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle];
  const lower = sorted[sorted.length % 2 === 0 ? middle - 1 : middle];
  if (upper === undefined || lower === undefined) throw new RangeError('A median needs at least one value');
  return (upper + lower) / 2;
}

/** Medians, ratio and verdict of a measured row. */
export function judge(row: Row, measurement: Measurement): Outcome {
  const value = median(measurement.values);
  const peerValue = measurement.peerValues === undefined ? null : median(measurement.peerValues);
  const ratio = peerValue === null ? null : value / peerValue;
  return {
    id: row.id,
    value,
    unit: row.unit,
    peer: row.peer ?? null,
    peerValue,
    ratio,
    wanted: row.wanted,
    met: (ratio ?? value) <= row.wanted,
  };
}
