// The start request of workloads of type nix, out of the schema that nodes publish; and the Nexfile around it.
import { NixStartRequest } from '@nex-nix/nix-nexlet';
import { NEXFILE_KEYS } from '../../packages/cli/src/nexfile.ts';
import { code, page, prose, table } from './markdown.ts';
import { type Field, fieldsOf } from './schema-fields.ts';

/** `docs/reference/start-request.md`. */
export function startRequestPage(): string {
  return page(
    'Start request and Nexfile',
    'What a workload of type `nix` is started from. Guide: [workloads](../guides/workloads.md).',
    '## Start request',
    'A JSON object, given to `nex workload start --start-request` or as `start_request` of a Nexfile; the options of `nex devrun`, `nex run` and `nex workload` write its fields. Keys that are not here are refused. A size is a number and `B`, `KiB`, `MiB` or `GiB`; a duration a whole number and `ms`, `s` or `m`.',
    schemaTable(fieldsOf(NixStartRequest)),
    'Where it says "the node\'s", [`nex node up`](commands.md#nex-node-up) decides (`--workload-…`, `--sandbox`); what follows is the default of that.',
    '## Nexfile',
    'A file, JSON or YAML, for `nex workload start --nexfile FILE`; `./Nexfile` is read when nothing else says what to start. Options of the command line are stronger.',
    table(
      ['Key', 'Meaning'],
      Object.entries(NEXFILE_KEYS).map(([key, meaning]) => [code(key), prose(meaning)]),
    ),
  );
}

/** One row a field. */
export function schemaTable(fields: readonly Field[]): string {
  return table(
    ['Field', 'Type', 'Default', 'Meaning'],
    fields.map(({ path, type, isRequired, default: byDefault, meaning }) => [
      code(path),
      isRequired ? `${type}; required` : type,
      prose(byDefault),
      prose(meaning),
    ]),
  );
}
