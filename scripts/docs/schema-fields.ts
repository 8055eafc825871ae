// What a JSON Schema says of each field, as rows of a table.
import { DURATION, SIZE } from '../../packages/nix-nexlet/src/request/units.ts';
import { code } from './markdown.ts';

/** The keywords of JSON Schema that the schemas of this project consist of. */
export interface Schema {
  readonly type?: string;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly patternProperties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly pattern?: string;
  readonly description?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
}

/** One field: `restart.policy`, `agents[].name`. */
export interface Field {
  readonly path: string;
  readonly type: string;
  readonly isRequired: boolean;
  readonly meaning: string;
  readonly default: string;
}

/** Fields that are objects are followed by their own. `known` gives schemas that have a heading of their own its name. */
export function fieldsOf(schema: Schema, known: (schema: Schema) => string | undefined = () => undefined): Field[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const own: Field = {
      path: name,
      type: known(field) ?? typeOf(field, known),
      isRequired: schema.required?.includes(name) ?? false,
      ...meaningOf(field),
    };
    if (known(field) !== undefined) return [own];
    const [inner, separator] = field.items?.properties === undefined ? [field, '.'] : [field.items, '[].'];
    if (known(inner) !== undefined) return [own];
    return [own, ...fieldsOf(inner, known).map((child) => ({ ...child, path: `${name}${separator}${child.path}` }))];
  });
}

/** `; default: 1s` at the end of a description is for a column of its own. */
function meaningOf({ description = '' }: Schema): { meaning: string; default: string } {
  const [, meaning = description, byDefault = ''] = /^(.*?)(?:; |^)default:? (.*)$/s.exec(description) ?? [];
  return { meaning, default: byDefault };
}

/** The type of a field, in words and with its bounds. */
export function typeOf(schema: Schema, known: (schema: Schema) => string | undefined = () => undefined): string {
  const choices = schema.enum ?? schema.anyOf?.map((one) => one.const);
  if (choices !== undefined) return choices.map((choice) => code(String(choice))).join(', ');
  if (schema.pattern === SIZE) return 'size';
  if (schema.pattern === DURATION) return 'duration';
  if (schema.type === 'array') {
    const items = schema.items === undefined ? 'any' : (known(schema.items) ?? typeOf(schema.items, known));
    return `list of ${items}${bounds(schema.minItems, schema.maxItems)}`;
  }
  if (schema.type === 'object') {
    const [values] = Object.values(schema.patternProperties ?? {});
    return values === undefined ? 'object' : `map to ${known(values) ?? typeOf(values, known)}`;
  }
  return `${schema.type ?? 'any'}${bounds(schema.minimum, schema.maximum)}`;
}

function bounds(least: number | undefined, most: number | undefined): string {
  if (least !== undefined && most !== undefined) return `, ${least} to ${most}`;
  if (least !== undefined) return `, at least ${least}`;
  return most === undefined ? '' : `, at most ${most}`;
}
