import {
  DEFINITIONS,
  type FieldDescription,
  ID_FIELDS,
  OPERATIONS,
  type OperationDescription,
} from './api-description.ts';

export interface CheckedRequest {
  /** Key of OPERATIONS. */
  name: string;
  operation: OperationDescription;
  id?: string;
  body: Record<string, unknown>;
}

/**
 * A request as Firecracker's version 1.<minor> takes it. Throws an error whose message is what it would answer with,
 * in other words.
 */
export function checkRequest(
  { method, path, body }: { method: string; path: string; body: string },
  minor: number,
): CheckedRequest {
  const [, first = '', id] = path.split('/');
  const idField = ID_FIELDS[first];
  const name = `${method} ${idField === undefined ? path : `/${first}/{id}`}`;
  const operation = OPERATIONS[name];
  if (operation === undefined || (operation.since ?? 0) > minor)
    throw new Error(`Invalid request method and/or path: ${method} ${path}.`);
  if (method === 'GET') {
    if (body !== '') throw new Error('GET request cannot have a body.');
    return { name, operation, body: {} };
  }
  if (body === '') throw new Error(`Empty ${method} request.`);
  const parsed: unknown = JSON.parse(body);
  checkObject(parsed, operation.body ?? '', minor);
  const value = parsed as Record<string, unknown>;
  if (idField === undefined) return { name, operation, body: value };
  if (id === undefined || !/^\w+$/.test(id))
    throw new Error(`API Resource IDs can only contain alphanumeric characters and underscores: ${id}`);
  if (value[idField] !== id)
    throw new Error(`The id from the path [${id}] does not match the id from the body [${String(value[idField])}]!`);
  return { name, operation, id, body: value };
}

/** Throws unless it has all that a definition requires, and nothing that it has not. */
export function checkObject(value: unknown, definition: string, minor: number): void {
  const fields = DEFINITIONS[definition];
  if (fields === undefined) throw new Error(`The description lacks ${definition}`);
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Error(`invalid type: expected ${definition}`);
  for (const [key, field] of Object.entries(value)) {
    const description = fields[key];
    if (description === undefined || (description.since ?? 0) > minor)
      throw new Error(`unknown field \`${key}\` in ${definition}`);
    checkField(field, description, { where: `${definition}.${key}`, minor });
  }
  for (const [key, { required, requiredUntil = 0 }] of Object.entries(fields)) {
    if ((required === true || minor <= requiredUntil) && !(key in value))
      throw new Error(`missing field \`${key}\` in ${definition}`);
  }
}

function checkField(
  value: unknown,
  description: FieldDescription,
  { where, minor }: { where: string; minor: number },
): void {
  const { type, of, minimum, maximum } = description;
  const complain = () => {
    throw new Error(`invalid value for ${where}: ${JSON.stringify(value)}`);
  };
  if (type === 'array') {
    if (!Array.isArray(value)) return complain();
    for (const member of value) checkObject(member, of ?? '', minor);
  } else if (type === 'object') checkObject(value, of ?? '', minor);
  else if (type === 'integer') {
    if (!Number.isSafeInteger(value)) return complain();
    if ((value as number) < (minimum ?? -Infinity) || (value as number) > (maximum ?? Infinity)) return complain();
  } else if (typeof value !== type) return complain();
  else if (description.enum !== undefined && !description.enum.includes(value as string)) complain();
}
