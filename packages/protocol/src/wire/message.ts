import type { Static, TSchema } from 'typebox';
import type { TLocalizedValidationError } from 'typebox/error';
import { Value } from 'typebox/value';
import { ProtocolError } from '../protocol-error.ts';

/** Messages come from other machines: longer ones, in bytes or characters, are not looked at. */
const MAX_LENGTH = 16 * 2 ** 20;

/** One message of the wire: its schema, and the only way to write and read it. */
export interface MessageType<T> {
  readonly name: string;
  readonly schema: TSchema;
  /**
   * JSON text with every required key.
   *
   * @throws {ProtocolError} NEX_MESSAGE_INVALID naming the field, when a value does not fit
   */
  encode(value: T): string;
  /**
   * Reads what a Go peer may send: unknown keys are kept but not looked at, `null` is the zero value of its type.
   *
   * @param source the subject the message came from, for the error
   * @throws {ProtocolError} NEX_MESSAGE_INVALID naming subject and field
   */
  decode(data: Uint8Array | string, source: string): T;
  /** As {@link decode}, of JSON that is parsed already; undefined when it is no such message. */
  accept(value: unknown): T | undefined;
}

/** What is wrong with one field of a value; `field` is `a.b.0`, or empty for the whole value. */
export interface FieldIssue {
  readonly field: string;
  readonly message: string;
}

/** Declares a message. `toWire` gives a value the form in which Go peers send it, after it was checked. */
export function defineMessage<S extends TSchema>(
  name: string,
  schema: S,
  toWire: (value: Static<S>) => unknown = (value) => value,
): MessageType<Static<S>> {
  return {
    name,
    schema,
    encode(value) {
      if (!Value.Check(schema, value))
        throw invalid(`Cannot write ${name}`, fieldIssue(Value.Errors(schema, value)[0]));
      return JSON.stringify(toWire(value));
    },
    decode(data, source) {
      const value = fromGo(schema, parseJson(data, `Cannot read ${name} from "${source}"`));
      if (Value.Check(schema, value)) return value;
      throw invalid(`Cannot read ${name} from "${source}"`, fieldIssue(Value.Errors(schema, value)[0]));
    },
    accept(json) {
      const value = fromGo(schema, json);
      return Value.Check(schema, value) ? value : undefined;
    },
  };
}

/** Names the field that a validation error is about. */
export function fieldIssue(error: TLocalizedValidationError | undefined): FieldIssue {
  if (error === undefined) return { field: '', message: 'does not fit its schema' };
  const path = error.instancePath.split('/').slice(1).map(unescapePointer);
  if (error.keyword === 'required') {
    const missing = error.params.requiredProperties[0] ?? '';
    return { field: [...path, missing].join('.'), message: 'is required' };
  }
  if (error.keyword === 'additionalProperties') {
    const extra = error.params.additionalProperties[0] ?? '';
    return { field: [...path, extra].join('.'), message: 'is not known' };
  }
  if (error.keyword === 'enum') {
    return { field: path.join('.'), message: `must be one of ${JSON.stringify(error.params.allowedValues)}` };
  }
  return { field: path.join('.'), message: error.message };
}

function unescapePointer(token: string): string {
  return token.replaceAll('~1', '/').replaceAll('~0', '~');
}

function invalid(what: string, { field, message }: FieldIssue): ProtocolError {
  return new ProtocolError(
    'NEX_MESSAGE_INVALID',
    field === '' ? `${what}: it ${message}` : `${what}: field "${field}" ${message}`,
  );
}

function parseJson(data: Uint8Array | string, what: string): unknown {
  if (data.length > MAX_LENGTH) {
    throw new ProtocolError('NEX_MESSAGE_INVALID', `${what}: it is longer than ${MAX_LENGTH} bytes`);
  }
  const text = typeof data === 'string' ? data : new TextDecoder().decode(data);
  try {
    return JSON.parse(text);
  } catch (cause) {
    const reason = text === '' ? 'it is empty' : 'it is not JSON';
    throw new ProtocolError('NEX_MESSAGE_INVALID', `${what}: ${reason}`, { cause });
  }
}

/** The few JSON Schema keywords that the messages of this package consist of. */
interface Shape {
  type?: string;
  properties?: Record<string, Shape>;
  patternProperties?: Record<string, Shape>;
  required?: string[];
  items?: Shape;
}

/** Go writes nil maps, slices and pointers as `null` and reads `null` as the zero value of the field. */
function fromGo(shape: Shape, value: unknown): unknown {
  if (value === null) return zeroValue(shape);
  if (Array.isArray(value)) {
    const { items } = shape;
    return items === undefined ? value : value.map((item) => fromGo(items, item));
  }
  if (typeof value !== 'object') return value;
  const entries: [string, unknown][] = [];
  for (const [key, item] of Object.entries(value)) {
    const field = Object.hasOwn(shape.properties ?? {}, key)
      ? shape.properties?.[key]
      : Object.values(shape.patternProperties ?? {})[0];
    if (field === undefined) entries.push([key, item]);
    else if (item !== null || isRequired(shape, key)) entries.push([key, fromGo(field, item)]);
  }
  return Object.fromEntries(entries);
}

function isRequired(shape: Shape, key: string): boolean {
  return shape.properties === undefined || (shape.required?.includes(key) ?? false);
}

const ZERO_VALUES: Readonly<Record<string, unknown>> = { string: '', number: 0, integer: 0, boolean: false };

function zeroValue(shape: Shape): unknown {
  if (shape.type === 'array') return [];
  if (shape.type !== 'object') return ZERO_VALUES[shape.type ?? ''] ?? null;
  const fields = Object.entries(shape.properties ?? {}).filter(([key]) => isRequired(shape, key));
  return Object.fromEntries(fields.map(([key, field]) => [key, zeroValue(field)]));
}
