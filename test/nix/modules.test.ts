import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describeEachNix, findTool, tempDir } from '@nex-nix/test-kit';
import type { Command } from 'commander';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { buildProgram } from '../../packages/cli/src/program.ts';
import { ROOT } from './flake.ts';
import { unitFiles, type Units } from './units.ts';

const run = promisify(execFile);

/** What nix/checks/modules/evaluate.nix gives. */
interface Evaluation {
  wrong: string[];
  good: Record<string, Outcome>;
  /** Name of each setting of a node; of a group, the names in it. */
  settings: Record<string, string[] | null>;
  /** The flag of each credential of a node. */
  credentials: Record<string, string>;
}

interface Outcome {
  services: Units['services'];
  networking: {
    dhcpcd: { denyInterfaces: string[] };
    firewall: { allowedTCPPorts: number[]; extraForwardRules: string; trustedInterfaces: string[] };
  };
  boot: { kernel: { sysctl: Record<string, number> }; kernelModules: string[] };
  nix: { settings: Record<string, string[]> };
  warnings: string[];
}

/** Of a node, what says nothing about the node, or is said by the module itself. */
const NO_SETTINGS = new Set(['check', 'config', 'version', 'nats.timeout']);
/** Secrets that no option takes a file for; a natscli context holds them. */
const IN_CONTEXTS = new Set(['nats.jwt', 'nats.password', 'nats.seed']);

/** What an evaluation leaves in the store. */
const WRITTEN = /\/nix\/store\/[0-9a-z]{32}-nex-(?:node\.json|cache\.json|node-contexts|cache-contexts)/g;

describeEachNix('modules of NixOS, evaluated with a stub of nixpkgs', (nix) => {
  let evaluation: Evaluation;

  beforeAll(async () => {
    const lib = `import ${ROOT}/test/nix/stub-nixpkgs/lib.nix`;
    const file = join(ROOT, 'nix/checks/modules/evaluate.nix');
    const words = ['--eval', '--read-write-mode', '--strict', '--json', '--arg', 'lib', lib, file];
    evaluation = JSON.parse((await nix.run('nix-instantiate', ...words)).toString()) as Evaluation;
  });

  afterAll(async () => {
    const files = Object.values(evaluation.good).flatMap(
      ({ services }) => JSON.stringify(services).match(WRITTEN) ?? [],
    );
    await nix.run('nix-store', '--delete', ...new Set(files));
  });

  it('take what makes sense, and refuse what does not with the words for it', () => {
    expect(evaluation.wrong).toEqual([]);
  });

  it('have an option for every setting of a node, and no others', async () => {
    const program = await buildProgram(['node', 'up']);
    const up = find(program, ['node', 'up']);
    const options = [...program.options, ...up.options].filter(({ hidden }) => !hidden).map((option) => option.name());
    const credentials = Object.values(evaluation.credentials).map((flag) => flag.replace(/^--/, ''));
    const inSettings = options
      .filter((name) => !NO_SETTINGS.has(name) && !IN_CONTEXTS.has(name) && !credentials.includes(name))
      .map((name) => name.replace(/^no-/, '').replaceAll('-', '_'));
    const declared = Object.entries(evaluation.settings).flatMap(([name, inner]) =>
      inner === null ? [name] : inner.map((key) => `${name}.${key}`),
    );
    // Nexlets of their own are in configuration files only.
    expect(declared.toSorted()).toEqual([...inSettings, 'agents'].toSorted());
    expect(options).toEqual(expect.arrayContaining(credentials));
  });

  it('have an option for everything that nex cache serve has', async () => {
    const serve = find(await buildProgram(['cache', 'serve']), ['cache', 'serve']);
    const line = String(
      evaluation.good['a cache with everything']?.services['nex-cache']?.serviceConfig?.['ExecStart'],
    );
    for (const { hidden, long } of serve.options) if (!hidden) expect(line).toMatch(new RegExp(`[" ]${long}[" ]`));
  });

  it('tell a daemon its settings by a file of the store, and where its secrets are by systemd', async () => {
    const unit = evaluation.good['a node with everything']?.services['nex-node']?.serviceConfig ?? {};
    const line = String(unit['ExecStart']);
    expect(line).toContain(' --issuer-signing-key %d/issuer_signing_key');
    expect(line).toContain(' --context context');
    expect(unit['LoadCredential']).toContain('issuer_signing_key:/run/secrets/issuer');
    const file = /"--config" "([^"]+)"/.exec(line)?.[1] ?? '';
    const settings = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
    expect(settings).toMatchObject({
      node_name: 'rack1',
      tags: { region: 'lab' },
      trusted_public_keys: 'a-1:AAAA b-1:BBBB',
      workload_cpus: 0.5,
      nats: { servers: ['nats://10.0.0.1:4222'] },
    });
    expect(Object.values(settings)).not.toContain(null);
  });

  it('write settings that the command itself understands', async () => {
    await using folder = await tempDir();
    const line = String(evaluation.good['a node with everything']?.services['nex-node']?.serviceConfig?.['ExecStart']);
    const file = /"--config" "([^"]+)"/.exec(line)?.[1] ?? '';
    const { stdout } = await run(process.execPath, [NEX, '--json', '--check', '--config', file, 'node', 'up'], {
      cwd: folder.path,
    });
    const { options } = JSON.parse(stdout) as { options: { name: string; value: unknown; source: string }[] };
    const fromFile = Object.fromEntries(
      options.filter(({ source }) => source === 'config').map((o) => [o.name, o.value]),
    );
    expect(fromFile).toMatchObject({
      'node-name': 'rack1',
      'max-workloads': 20,
      'workload-memory': 512 * 2 ** 20,
      'cgroup-parent': '/system.slice/nex-workloads.service',
      'on-shutdown': 'stop',
      tags: { region: 'lab' },
    });
  });

  it('escape what systemd would read otherwise', () => {
    const line = String(
      evaluation.good['a cache with everything']?.services['nex-cache']?.serviceConfig?.['ExecStart'],
    );
    expect(line).toContain('"--upstream" "https://other.example.org/100%%25"');
    expect(line).toContain('"--listen" "[::]:443"');
    expect(line).toContain('"--trusted-public-keys" "a-1:AAAA b-1:BBBB"');
  });

  it('keep workloads in a unit of their own, which a new configuration does not restart', () => {
    const { 'nex-node': node, 'nex-workloads': workloads } = evaluation.good['a node']?.services ?? {};
    expect(workloads).toMatchObject({ restartIfChanged: false, serviceConfig: { Delegate: true } });
    expect(node).toMatchObject({ bindsTo: ['nex-workloads.service'] });
    // What gives a unit a mount namespace, and with it network namespaces that its next start does not see.
    const mounting =
      /^(?:Protect(?!Clock|Hostname)|Private(?!Network|Users)|ReadOnly|ReadWrite|Inaccessible|Bind|DynamicUser)/;
    expect(Object.keys(node?.serviceConfig ?? {}).filter((key) => mounting.test(key))).toEqual([]);
  });

  it('leave the bridge to the node, and to nobody else', () => {
    const { 'a node': plain, 'a node with its own networks': own, 'a node without bridge': none } = evaluation.good;
    expect(plain?.networking.firewall.trustedInterfaces).toEqual(['nex0']);
    expect(plain?.networking.dhcpcd.denyInterfaces).toEqual(['nex0', 'veth*']);
    expect(plain?.boot.kernel.sysctl).toEqual({ 'net.ipv4.ip_forward': 1 });
    expect(own?.networking.firewall.trustedInterfaces).toEqual([]);
    expect(none?.boot.kernel.sysctl).toEqual({});
    const { firewall } = evaluation.good['a node with everything']?.networking ?? {};
    expect(firewall).toMatchObject({ allowedTCPPorts: [9123], trustedInterfaces: ['work0'] });
    expect(firewall?.extraForwardRules).toContain('oifname "work0" ct status dnat accept');
  });

  it('make a cache a substituter of its machine', () => {
    expect(evaluation.good['a cache for this machine']?.nix.settings).toEqual({
      substituters: ['http://127.0.0.1:8080'],
      'trusted-public-keys': ['cache-1:AAAA'],
    });
  });

  it.skipIf(findTool('systemd-analyze') === undefined)('have units that systemd takes', async () => {
    await using folder = await tempDir();
    for (const name of ['a node with everything', 'a cache with everything']) {
      const services = withPrograms(evaluation.good[name]?.services ?? {});
      const files = unitFiles({ services, sockets: {} });
      const written = files.map((file) => join(folder.path, file.name));
      await Promise.all(files.map(({ text }, index) => writeFile(written[index] ?? '', text)));
      const { stdout, stderr } = await run('systemd-analyze', ['verify', '--man=no', ...written]);
      expect(`${stdout}${stderr}`.split('\n').filter((text) => text.includes('nex-'))).toEqual([]);
    }
  });
});

const NEX = join(ROOT, 'packages/cli/bin/nex.js');

function find(command: Command, path: readonly string[]): Command {
  const [name, ...rest] = path;
  if (name === undefined) return command;
  const inner = command.commands.find((one) => one.name() === name);
  if (inner === undefined) throw new Error(`there is no command ${name}`);
  return find(inner, rest);
}

/** The packages of the evaluation hold no programs, and systemd looks for them. */
function withPrograms(services: Units['services']): Units['services'] {
  return Object.fromEntries(
    Object.entries(services).map(([name, unit]) => {
      const line = String(unit.serviceConfig?.['ExecStart']).replace(/^"?\/nix\/store\/[^" ]+"?/, '/bin/true');
      return [name, { ...unit, serviceConfig: { ...unit.serviceConfig, ExecStart: line } }];
    }),
  );
}
