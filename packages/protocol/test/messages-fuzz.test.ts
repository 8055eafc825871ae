import { anything, array, assert, constantFrom, json, oneof, property, string, uint8Array } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type MessageType, NodePingResponse, PlacementTags, ProtocolError, WorkloadSummaries } from '../src/index.ts';
import { SAMPLES } from './message-samples.ts';

describe('decode(), whatever comes', () => {
  const types = constantFrom(...SAMPLES.map((each) => each.type), WorkloadSummaries, PlacementTags);
  const readOrRefuse = (type: MessageType<unknown>, data: Uint8Array | string) => {
    try {
      // What was read can be written again.
      type.encode(type.decode(data, 's'));
    } catch (error) {
      expect(error).toBeInstanceOf(ProtocolError);
    }
  };

  it('throws nothing but errors of this package', () => {
    const text = oneof(
      json(),
      string(),
      anything().map((value) => JSON.stringify(value) ?? ''),
    );
    assert(property(types, oneof(text, uint8Array()), readOrRefuse), { numRuns: 2_000 });
  });

  it('does so also for messages with a key changed', () => {
    const damaged = constantFrom(...SAMPLES).chain((each) =>
      array(oneof(json(), json({ maxDepth: 1 })), { minLength: 1, maxLength: 3 }).map((values) => {
        const keys = Object.keys(each.payload);
        const changes = values.map((value, index): [string, unknown] => [
          keys[(index * 7 + value.length) % Math.max(1, keys.length)] ?? '__proto__',
          JSON.parse(value),
        ]);
        return { type: each.type, text: JSON.stringify({ ...each.payload, ...Object.fromEntries(changes) }) };
      }),
    );
    assert(
      property(damaged, ({ type, text }) => readOrRefuse(type, text)),
      { numRuns: 1_000 },
    );
  });

  it.each([
    ['deep', '['.repeat(200_000) + ']'.repeat(200_000)],
    ['deep in a key', `{"tags":${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}}`],
    ['long', ' '.repeat(17 * 2 ** 20)],
    ['a list of 100 000 wrong items', `[${'1,'.repeat(99_999)}1]`],
  ])('withstands what is too %s', (_, text) => {
    expect(() => NodePingResponse.decode(text, 's')).toThrow(ProtocolError);
    expect(() => WorkloadSummaries.decode(text, 's')).toThrow(ProtocolError);
  });
});
