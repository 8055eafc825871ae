import { describe, expect, it } from 'vitest';
import { eventSubject, knownEvent, PlacementTags, WorkloadSummaries } from '../src/index.ts';
import { type Sample, SAMPLES } from './message-samples.ts';

const decode = ({ type }: Sample, payload: unknown) => type.decode(JSON.stringify(payload), 's');

const NAMED = SAMPLES.map((each) => ({ ...each, name: each.type.name }));
const requiredOf = ({ payload, optional = [] }: Sample) =>
  Object.keys(payload).filter((key) => !optional.includes(key));
const WITH_REQUIRED = NAMED.filter((each) => requiredOf(each).length > 0);
const WITH_OPTIONAL = NAMED.filter(({ optional = [] }) => optional.length > 0);

describe('every message', () => {
  it.each(NAMED)('$name is written as it was read, key by key', (each) => {
    expect(JSON.parse(each.type.encode(decode(each, each.payload)))).toEqual(each.payload);
  });

  it.each(WITH_REQUIRED)('$name is not read without one of its required keys', (each) => {
    for (const key of requiredOf(each)) {
      const { [key]: _, ...rest } = each.payload;
      expect(() => decode(each, rest), key).toThrow(`field "${key}" is required`);
    }
  });

  it.each(WITH_OPTIONAL)('$name needs none of its optional keys, and takes null for their absence', (each) => {
    for (const key of each.optional ?? []) {
      const { [key]: _, ...rest } = each.payload;
      expect(decode(each, rest), key).not.toHaveProperty([key]);
      expect(decode(each, { ...each.payload, [key]: null }), key).not.toHaveProperty([key]);
    }
  });

  it.each(WITH_REQUIRED)('$name has the zero value for a required key that is null', (each) => {
    const { type, payload, enums = [] } = each;
    for (const key of requiredOf(each).filter((key) => !enums.includes(key))) {
      expect(() => type.encode(decode(each, { ...payload, [key]: null })), key).not.toThrow();
    }
    for (const key of enums) expect(() => decode(each, { ...payload, [key]: null }), key).toThrow('must be one of');
  });

  it.each(NAMED)('$name keeps keys that it does not know', (each) => {
    expect(decode(each, { ...each.payload, unheard_of: { a: [1] } })).toMatchObject({ unheard_of: { a: [1] } });
  });
});

describe('messages without keys of their own', () => {
  it('are read and written too', () => {
    expect(PlacementTags.decode('{"a":"b"}', 's')).toEqual({ a: 'b' });
    expect(PlacementTags.decode('null', 's')).toEqual({});
    expect(WorkloadSummaries.decode('null', 's')).toEqual([]);
    expect(WorkloadSummaries.encode([])).toBe('[]');
  });
});

describe('events', () => {
  it('have the subjects of Nex 0.4', () => {
    expect(eventSubject('NB', 'NODESTARTED')).toBe('$NEX.FEED.NB.events.NODESTARTED');
    expect(eventSubject('default', 'WORKLOADSTOPPED')).toBe('$NEX.FEED.default.events.WORKLOADSTOPPED');
  });

  it('get their type from their name, unless their body is another', () => {
    const event = { from: 'NB', name: 'NODESTOPPED', body: { id: 'NB' }, time: undefined };
    expect(knownEvent(event)).toEqual(event);
    expect(knownEvent({ ...event, body: 'text' })).toBeUndefined();
    expect(knownEvent({ ...event, name: 'toString' })).toBeUndefined();
  });
});
