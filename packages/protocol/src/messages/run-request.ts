import { Errors, type XSchema } from 'typebox/schema';
import { type FieldIssue, fieldIssue } from '../wire/message.ts';
import { withTimeLimit } from '../wire/time-limit.ts';
import { ProtocolError } from '../protocol-error.ts';

/** Schemas come from other machines: longer ones are not looked at. */
const MAX_SCHEMA_LENGTH = 256 * 1024;
/** How long a check may take, in milliseconds: a short schema can hold an endless pattern, or refer to itself a thousand times. */
const MAX_CHECK_TIME = 1_000;

/** A nexlet's schema of `run_request`, parsed. It is interpreted, never compiled to code. */
export interface RunRequestSchema {
  /** What does not fit, fields named as `a.b.0`; empty when `value` is a valid run request. */
  check(value: unknown): FieldIssue[];
  /** The fields that it names at its top. */
  readonly properties: ReadonlySet<string>;
}

/**
 * Reads the JSON Schema that a nexlet registered or bid with. Keywords and formats that are not known are ignored.
 *
 * @throws {ProtocolError} NEX_SCHEMA_INVALID
 */
export function parseRunRequestSchema(text: string): RunRequestSchema {
  if (text.length > MAX_SCHEMA_LENGTH) throw unusable(`it is longer than ${MAX_SCHEMA_LENGTH} characters`);
  let schema: unknown;
  try {
    schema = JSON.parse(text);
  } catch (cause) {
    throw unusable('it is not JSON', cause);
  }
  if (typeof schema !== 'boolean' && (typeof schema !== 'object' || schema === null || Array.isArray(schema))) {
    throw unusable('it is neither an object nor a boolean');
  }
  const parsed: XSchema = schema;
  return { check: (value) => issuesOf(parsed, value), properties: new Set(propertiesOf(schema)) };
}

function propertiesOf(schema: boolean | object): string[] {
  const properties: unknown = typeof schema === 'object' && 'properties' in schema ? schema.properties : undefined;
  return typeof properties === 'object' && properties !== null ? Object.keys(properties) : [];
}

function issuesOf(schema: XSchema, value: unknown): FieldIssue[] {
  try {
    const [valid, errors] = withTimeLimit(MAX_CHECK_TIME, () => Errors(schema, value));
    if (valid) return [];
    // A forbidden extra key is reported twice: once for its own schema `false`, once by name.
    const issues = errors.filter((error) => error.keyword !== 'boolean').map((error) => fieldIssue(error));
    return issues.length > 0 ? issues : [fieldIssue(undefined)];
  } catch (cause) {
    // A pattern that is no regular expression, or a schema that refers to itself without end, or takes too long.
    throw unusable('it cannot be evaluated', cause);
  }
}

function unusable(why: string, cause?: unknown): ProtocolError {
  return new ProtocolError('NEX_SCHEMA_INVALID', `Cannot use the start request schema of the nexlet: ${why}`, {
    cause,
  });
}

/** `field "a.b" is required; field "c" must be string`: as it goes into error texts. */
export function describeIssues(issues: readonly FieldIssue[]): string {
  const [first, second] = issues;
  const text = [first, second].flatMap((issue) =>
    issue === undefined ? [] : [issue.field === '' ? `it ${issue.message}` : `field "${issue.field}" ${issue.message}`],
  );
  return issues.length > 2 ? `${text.join('; ')}; and ${issues.length - 2} more` : text.join('; ');
}
