import { join } from 'node:path';
import type { DevStatus } from '@nex-nix/devenv';
import { table } from '../output.ts';
import { shellWord } from './shell-words.ts';
import { isUp, type Paint } from './service-style.ts';
import { clip, plainText } from './terminal-text.ts';

/** How to use dev services: a line each, to paste. */
export function usage(status: DevStatus): string[] {
  if (status.environment['NATS_URL'] === undefined) return ['Nothing is ready yet'];
  return [...ofServer(status), ...ofNode(status), ...ofCache(status)];
}

function ofServer({ environment, dataDir }: DevStatus): string[] {
  const { XDG_CONFIG_HOME: contexts = dataDir } = environment;
  return [
    `NATS server ready at ${environment['NATS_URL'] ?? ''}`,
    'Contexts Sys, ExpAdmin and ExpNode; in another terminal:',
    `  export XDG_CONFIG_HOME=${shellWord(contexts)}`,
    'All variables, for nats, nsc, nex and Nix:',
    `  eval "$(nex dev env --data-dir ${shellWord(dataDir)})"`,
  ];
}

/** What a node needs that makes credentials for its workloads; nothing when one runs. */
function ofNode({ services, environment, dataDir }: DevStatus): string[] {
  if (services.some(({ name }) => name === 'node')) return ['Nodes: nex --context ExpNode node list'];
  const key = environment['BINARY_CACHE_SECRET_KEY_FILE'];
  const cacheKey = key === undefined ? '' : ` --cache-key-file ${shellWord(key)}`;
  return [
    'To run a node there, with these variables:',
    `  nex --context ExpNode node up --state-dir ${shellWord(join(dataDir, 'node'))}${cacheKey}`,
  ];
}

/** What to paste so that Nix uses the cache. */
function ofCache({ environment }: DevStatus): string[] {
  const {
    BINARY_CACHE_URL: url,
    BINARY_CACHE_PUBLIC_KEY: publicKey = '',
    BINARY_CACHE_NETRC: netrc = '',
  } = environment;
  if (url === undefined) return [];
  return [
    `Binary cache ready at ${url}; in nix.conf, or after "--option" of a nix command:`,
    `  extra-substituters = ${url}`,
    `  extra-trusted-public-keys = ${publicKey}`,
    'To copy into it and out of it:',
    `  nix copy --to "${url}?compression=zstd" --option netrc-file ${shellWord(netrc)} PATH`,
    `  nix copy --from ${url} --option extra-trusted-public-keys ${publicKey} PATH`,
  ];
}

/** Of a last line in the table. */
const LINE_COLUMNS = 60;

/** The services as a table. */
export function serviceTable({ dataDir, services }: DevStatus): string {
  const rows = services.map(({ name, state, pid, url, restarts, reason, lastLine, ...service }) => [
    name,
    state,
    pid === undefined ? '' : String(pid),
    url ?? '',
    String(restarts),
    clip(plainText((isUp({ state }) ? lastLine : (reason ?? lastLine)) ?? ''), LINE_COLUMNS),
    service.since,
  ]);
  return table(
    `Dev services in ${dataDir}`,
    ['Service', 'State', 'Pid', 'Where', 'Restarts', 'Last line', 'Since'],
    rows,
  );
}

/** What stays on the terminal when dev services have ended: how each has fared. */
export function farewell({ dataDir, services }: DevStatus, paint: Paint): string {
  const width = Math.max(...services.map(({ name }) => name.length));
  const fared = services.map(({ name, restarts, state, reason }) => {
    const again = restarts === 0 ? '' : `, was restarted ${restarts} ${restarts === 1 ? 'time' : 'times'}`;
    const why = state === 'failed' && reason !== undefined ? `: ${plainText(reason)}` : '';
    return `  ${paint('bold', name.padEnd(width))}  ${state}${again}${why}`;
  });
  const option = ` --data-dir ${shellWord(dataDir)}`;
  return [
    'Dev services ended; their data stays:',
    ...fared,
    `What they printed: nex dev logs${option}`,
    `Start them again:  nex dev${option}`,
  ].join('\n');
}
