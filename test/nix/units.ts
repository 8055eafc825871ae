import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** A unit as a module of NixOS describes it. */
interface Unit {
  enable?: boolean;
  description?: string;
  requires?: string[];
  after?: string[];
  wantedBy?: string[];
  bindsTo?: string[];
  restartIfChanged?: boolean;
  listenStreams?: string[];
  unitConfig?: Record<string, unknown>;
  serviceConfig?: Record<string, unknown>;
}

export interface Units {
  services: Record<string, Unit>;
  sockets: Record<string, Unit>;
}

/** The units of a system that was built with the stub of nixpkgs. */
export async function readUnits(system: string): Promise<Units> {
  return JSON.parse(await readFile(join(system, 'units.json'), 'utf8')) as Units;
}

/** Files for systemd, of the units that are not masked. */
export function unitFiles({ services, sockets }: Units): { name: string; text: string; wantedBy: string[] }[] {
  return [
    ...Object.entries(services).map(([name, unit]) => ({ name: `${name}.service`, unit })),
    ...Object.entries(sockets).map(([name, unit]) => ({ name: `${name}.socket`, unit })),
  ]
    .filter(({ unit }) => unit.enable !== false)
    .map(({ name, unit }) => ({ name, text: unitText(unit), wantedBy: unit.wantedBy ?? [] }));
}

function unitText(unit: Unit): string {
  const { description = '', requires = [], after = [], bindsTo = [], listenStreams, unitConfig, serviceConfig } = unit;
  return [
    '[Unit]',
    `Description=${description}`,
    `Requires=${requires.join(' ')}`,
    `After=${after.join(' ')}`,
    `BindsTo=${bindsTo.join(' ')}`,
    ...lines(unitConfig),
    ...(listenStreams === undefined ? ['[Service]'] : ['[Socket]', ...listenStreams.map((at) => `ListenStream=${at}`)]),
    ...lines(serviceConfig),
    '',
  ].join('\n');
}

function lines(settings: Record<string, unknown> = {}): string[] {
  return Object.entries(settings).flatMap(([key, value]) => [value].flat().map((one) => `${key}=${String(one)}`));
}
