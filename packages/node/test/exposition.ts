const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const LABEL = '[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\\\\n]|\\\\[\\\\"n])*"';
const SAMPLE = new RegExp(`^(${NAME})(\\{${LABEL}(?:,${LABEL})*\\})? (NaN|[+-]Inf|-?[0-9.]+(?:e[+-]?[0-9]+)?)$`);
const HELP = new RegExp(`^# HELP (${NAME}) (?:[^\\\\]|\\\\[\\\\n])+$`);
const TYPE = new RegExp(`^# TYPE (${NAME}) (counter|gauge|summary|histogram)$`);

/**
 * Reads Prometheus' text format 0.0.4, written from its description and stricter than it: every metric has its help and its
 * type in front of its samples, all of them together; no series comes twice; counters end in `_total`.
 *
 * @returns the values by series: `name{label="value"}`
 */
export function readExposition(text: string): Map<string, number> {
  if (!text.endsWith('\n')) throw new Error('The last line has no end');
  const series = new Map<string, number>();
  const seen = new Set<string>();
  let current: { name: string; type: string | undefined } | undefined;
  for (const line of text.slice(0, -1).split('\n')) {
    const [, help] = HELP.exec(line) ?? [];
    const [, typed, type] = TYPE.exec(line) ?? [];
    const [, name, labels = '', value] = SAMPLE.exec(line) ?? [];
    if (help !== undefined) {
      if (seen.has(help)) throw new Error(`"${help}" comes in two places`);
      seen.add(help);
      current = { name: help, type: undefined };
    } else if (typed !== undefined) {
      if (current?.name !== typed || current.type !== undefined) throw new Error(`A type without its help: ${line}`);
      if ((type === 'counter') !== typed.endsWith('_total')) throw new Error(`"${typed}" is no name for a ${type}`);
      current.type = type;
    } else if (name !== undefined && value !== undefined) {
      const own = current?.type === 'summary' ? name.replace(/_(sum|count)$/, '') : name;
      if (current?.type === undefined || current.name !== own) throw new Error(`A sample without its type: ${line}`);
      if (series.has(name + labels)) throw new Error(`It comes twice: ${line}`);
      series.set(name + labels, value.endsWith('Inf') ? Infinity : Number(value));
    } else throw new Error(`Not a line of the format: ${line}`);
  }
  return series;
}
