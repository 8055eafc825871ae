import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { exportLines, shellWord } from './shell-words.ts';

it('exportLines() gives a shell exactly the values, whatever is in them', () => {
  const environment = {
    PLAIN: '/srv/data',
    SPACES: ' two  words ',
    QUOTES: `it's "quoted" \`echo no\` $(echo no) $HOME \\`,
    LINES: 'a\nb',
    GLOB: '* ? [a] ~',
    EMPTY: '',
  };
  const script = `${exportLines(environment).join('\n')}\nfor name in ${Object.keys(environment).join(' ')}; do eval "printf '%s\\0' \\"\\$$name\\""; done`;
  const values = execFileSync('sh', ['-c', script], { encoding: 'utf8' }).split('\0').slice(0, -1);
  expect(values).toEqual(Object.values(environment));
});

it('shellWord() leaves what needs no quotes as it is', () => {
  expect(shellWord('nats://127.0.0.1:4222')).toBe('nats://127.0.0.1:4222');
});
