import { describe, expect, it } from 'vitest';
import { describeIssues, parseRunRequestSchema } from './run-request.ts';

const schema = {
  $schema: 'http://json-schema.org/draft-07/schema#',
  type: 'object',
  required: ['store_path'],
  additionalProperties: false,
  properties: {
    store_path: { type: 'string', pattern: '^/nix/store/' },
    argv: { type: 'array', items: { type: 'string' } },
    blob: { type: 'string', contentEncoding: 'base64', format: 'no-such-format' },
  },
};
const check = (value: unknown) => parseRunRequestSchema(JSON.stringify(schema)).check(value);

describe('parseRunRequestSchema()', () => {
  it('accepts what fits, unknown keywords and formats included', () => {
    expect(check({ store_path: '/nix/store/x', argv: ['a'], blob: '!' })).toEqual([]);
  });

  it('names the field of what does not fit', () => {
    expect(describeIssues(check({}))).toBe('field "store_path" is required');
    expect(describeIssues(check({ store_path: '/nix/store/x', argv: [1] }))).toBe('field "argv.0" must be string');
    expect(describeIssues(check({ store_path: '/nix/store/x', more: 1 }))).toBe('field "more" is not known');
    expect(describeIssues(check('text'))).toBe('it must be object');
  });

  it.each([['{'], ['[]'], ['null'], ['"x"'], [`{"a":"${'x'.repeat(300_000)}"}`]])(
    'refuses the schema %.20s',
    (text) => {
      expect(() => parseRunRequestSchema(text)).toThrow(expect.objectContaining({ code: 'NEX_SCHEMA_INVALID' }));
    },
  );

  it.each([[{ pattern: '(' }], [{ $ref: '#' }]])('reports %j, which cannot be evaluated, as such', (hostile) => {
    const parsed = parseRunRequestSchema(JSON.stringify(hostile));
    expect(() => parsed.check('text')).toThrow(expect.objectContaining({ code: 'NEX_SCHEMA_INVALID' }));
  });
});
