import { assert, json, property } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ProtocolError } from '../protocol-error.ts';
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

  it('knows the fields that a schema names', () => {
    expect([...parseRunRequestSchema(JSON.stringify(schema)).properties]).toEqual(['store_path', 'argv', 'blob']);
    for (const none of ['true', '{}', '{"properties":null}']) {
      expect(parseRunRequestSchema(none).properties.size).toBe(0);
    }
  });

  it('throws nothing but errors of this package, whatever the schema', () => {
    const keywords = ['type', 'properties', 'items', 'pattern', 'enum', '$ref', 'allOf', 'required', 'minimum', 'not'];
    assert(
      property(json(), json(), (inner, value) => {
        for (const keyword of keywords) {
          try {
            describeIssues(parseRunRequestSchema(`{"${keyword}":${inner}}`).check(JSON.parse(value)));
          } catch (error) {
            expect(error).toBeInstanceOf(ProtocolError);
          }
        }
      }),
    );
  });

  it.each([['{'], ['[]'], ['null'], ['"x"'], [`{"a":"${'x'.repeat(300_000)}"}`]])(
    'refuses the schema %.20s',
    (text) => {
      expect(() => parseRunRequestSchema(text)).toThrow(expect.objectContaining({ code: 'NEX_SCHEMA_INVALID' }));
    },
  );

  it.each([
    ['a pattern', { pattern: '^(a+)+$' }],
    [
      'references',
      {
        $defs: Object.fromEntries(
          Array.from({ length: 40 }, (_, n) => [
            `d${n}`,
            n === 39 ? { type: 'string' } : { allOf: [{ $ref: `#/$defs/d${n + 1}` }, { $ref: `#/$defs/d${n + 1}` }] },
          ]),
        ),
        $ref: '#/$defs/d0',
      },
    ],
  ])('does not go on for ever with %s', (_, hostile) => {
    const parsed = parseRunRequestSchema(JSON.stringify(hostile));
    const started = performance.now();
    expect(() => parsed.check(`${'a'.repeat(60)}!`)).toThrow(expect.objectContaining({ code: 'NEX_SCHEMA_INVALID' }));
    expect(performance.now() - started).toBeLessThan(5_000);
  });

  it.each([[{ pattern: '(' }], [{ $ref: '#' }]])('reports %j, which cannot be evaluated, as such', (hostile) => {
    const parsed = parseRunRequestSchema(JSON.stringify(hostile));
    expect(() => parsed.check('text')).toThrow(expect.objectContaining({ code: 'NEX_SCHEMA_INVALID' }));
  });
});
