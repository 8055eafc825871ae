import { expect, it } from 'vitest';
import { readExposition } from '../../test/exposition.ts';
import { formatMetrics } from './metric.ts';

it('writes what the text format of Prometheus has', () => {
  const text = formatMetrics([
    { name: 'a_total', help: 'One\nof \\ two.', type: 'counter', samples: [{ value: 1 }] },
    {
      name: 'b',
      help: 'B.',
      type: 'gauge',
      samples: [
        { labels: { name: 'q"u\\o\nte', id: 'ü' }, value: 0.5 },
        { labels: { name: '' }, value: Number.NaN },
      ],
    },
    { name: 'c', help: 'C.', type: 'gauge', samples: [] },
    { name: 'd', help: 'D.', type: 'summary', samples: [{ value: 2, part: 'sum' }] },
    { name: 'd', help: 'D.', type: 'summary', samples: [{ value: 1e21, part: 'count' }] },
  ]);
  expect(text).toBe(
    [
      '# HELP a_total One\\nof \\\\ two.',
      '# TYPE a_total counter',
      'a_total 1',
      '# HELP b B.',
      '# TYPE b gauge',
      'b{name="q\\"u\\\\o\\nte",id="ü"} 0.5',
      'b{name=""} NaN',
      '# HELP d D.',
      '# TYPE d summary',
      'd_sum 2',
      'd_count 1e+21',
      '',
    ].join('\n'),
  );
  expect(readExposition(text).size).toBe(5);
  expect(formatMetrics([])).toBe('');
});

it.each([
  ['a 1\n', 'without its type'],
  ['# HELP a A.\n# TYPE a counter\na 1\n', 'no name for a counter'],
  ['# HELP a A.\n# TYPE a gauge\na 1\na 2\n', 'comes twice'],
  ['# HELP a A.\n# TYPE a gauge\na{x="1} 1\n', 'Not a line'],
  ['# HELP a A.\n# TYPE a gauge\na 1', 'no end'],
])('the check of the tests refuses %j', (text, why) => {
  expect(() => readExposition(text)).toThrow(why);
});
