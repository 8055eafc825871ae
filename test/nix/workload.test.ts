import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeEachNix } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { SCHEMA, schemaText } from '../../nix/lib/write-schema.ts';
import { ROOT } from './flake.ts';

/** What is no setting: the package says what to run, and values are for `nex` to seal. */
const NOT_SET = ['store_path', 'encrypted_environment', 'environment'];
const OF_THE_NEXFILE = ['name', 'description', 'lifecycle', 'tags', 'environment', 'metadata'];

const LIBRARY = `
  let
    lib = import ${join(ROOT, 'test/nix/stub-nixpkgs/lib.nix')};
    writeText = name: text: { inherit name text; };
    package = derivation { name = "greeter-1.2"; system = "x86_64-linux"; builder = "greet"; }
      // { pname = "greeter"; meta = { mainProgram = "greet"; description = "Greets"; }; };
    bare = derivation { name = "bare-thing-2"; system = "x86_64-linux"; builder = "none"; };
    mkNexWorkload = import ${join(ROOT, 'nix/lib/mk-nex-workload.nix')} { inherit lib writeText; };
  in`;

describe('the schema that mkNexWorkload checks by', () => {
  it('is the one of start requests; else: node --conditions=nexsrc nix/lib/write-schema.ts', async () => {
    expect(JSON.parse(await readFile(SCHEMA, 'utf8'))).toEqual(JSON.parse(schemaText()));
  });
});

describeEachNix('mkNexWorkload', (nix) => {
  async function evaluate(expression: string): Promise<unknown> {
    const args = ['--eval', '--strict', '--json', '--expr', `${LIBRARY} ${expression}`];
    return JSON.parse((await nix.run('nix-instantiate', ...args)).toString()) as unknown;
  }

  it('makes a Nexfile of a package alone, by what the package says of itself', async () => {
    const made = await evaluate(
      'let made = mkNexWorkload { inherit package; }; in [ made.name made.text made.nexfile ]',
    );
    const [name, text, nexfile] = made as [string, string, unknown];
    expect(name).toBe('greeter.nexfile.json');
    expect(JSON.parse(text)).toEqual(nexfile);
    expect(nexfile).toEqual({
      name: 'greeter',
      description: 'Greets',
      type: 'nix',
      lifecycle: 'service',
      start_request: {
        store_path: expect.stringMatching(/^\/nix\/store\/[0-9a-z]{32}-greeter-1\.2$/) as string,
        program: 'bin/greet',
      },
    });
  });

  it('names a workload after its package, and leaves to the node what nobody has said', async () => {
    expect(await evaluate('(mkNexWorkload { package = bare; }).nexfile')).toEqual({
      name: 'bare-thing',
      type: 'nix',
      lifecycle: 'service',
      start_request: { store_path: expect.stringContaining('-bare-thing-2') as string },
    });
  });

  it('puts each setting where it belongs', async () => {
    const settings = `{
      inherit package;
      name = "web"; description = "Mine"; lifecycle = "service"; tags.region = "lab"; metadata.team.name = "a";
      environment.GREETING = "hi";
      program = "bin/other"; argv = [ "--verbose" ]; sandbox = "oci"; network = "bridge"; expose_ports = [ 8080 8081 ];
      resources = { memory = "256MiB"; cpus = 0.5; pids = 64; tmp = "1.5GiB"; log_rate = "1MiB"; };
      restart = { policy = "on-failure"; max_retries = 5; backoff = "1s"; };
      health = { http = { port = 8080; path = "/up"; }; interval = "500ms"; };
      stop = { signal = "SIGINT"; grace = "10s"; };
    }`;
    expect(await evaluate(`(mkNexWorkload ${settings}).nexfile`)).toEqual({
      name: 'web',
      description: 'Mine',
      type: 'nix',
      lifecycle: 'service',
      tags: { region: 'lab' },
      metadata: { team: { name: 'a' } },
      environment: { GREETING: 'hi' },
      start_request: {
        store_path: expect.any(String) as string,
        program: 'bin/other',
        argv: ['--verbose'],
        sandbox: 'oci',
        network: 'bridge',
        expose_ports: [8080, 8081],
        resources: { memory: '256MiB', cpus: 0.5, pids: 64, tmp: '1.5GiB', log_rate: '1MiB' },
        restart: { policy: 'on-failure', max_retries: 5, backoff: '1s' },
        health: { http: { port: 8080, path: '/up' }, interval: '500ms' },
        stop: { signal: 'SIGINT', grace: '10s' },
      },
    });
  });

  it('takes all that a start request has, and names it when something else is asked for', async () => {
    const { properties } = JSON.parse(schemaText()) as { properties: object };
    const taken = [...OF_THE_NEXFILE, ...Object.keys(properties).filter((name) => !NOT_SET.includes(name))];
    await expect(evaluate('mkNexWorkload { inherit package; resource = { }; }')).rejects.toThrow(
      `Cannot make a Nexfile of "greeter-1.2": resource is not known, expected one of ${taken.toSorted().join(', ')}`,
    );
  });

  it.each([
    ['{ package = "hello"; }', 'Cannot make a Nexfile: package is missing, expected the package to run'],
    ['{ inherit package; resources.memory = "1GB"; }', 'resources.memory is "1GB", expected a string like '],
    [
      '{ inherit package; resources.mem = "1GiB"; }',
      'resources.mem is not known, expected one of cpus, log_rate, memory, ',
    ],
    ['{ inherit package; sandbox = "vm"; argv = "x"; }', 'argv is "x", expected a list'],
    ['{ inherit package; sandbox = "vm"; argv = "x"; }', '; sandbox is "vm", expected one of oci, microvm'],
    ['{ inherit package; expose_ports = [ 80 70000 ]; }', 'expose_ports[1] is 70000, expected at most 65535'],
    ['{ inherit package; expose_ports = [ 80 80 ]; }', 'expose_ports is [80,80], expected no entry twice'],
    ['{ inherit package; restart.max_retries = 1.5; }', 'restart.max_retries is 1.5, expected a whole number'],
    ['{ inherit package; environment.PORT = 80; }', 'environment.PORT is 80, expected a string'],
    ['{ inherit package; name = x: x; }', 'name is a function, expected a string'],
    ['{ inherit package; health.http = { }; }', 'health.http.port is missing'],
    ['{ inherit package; health = { tcp = 1; nats = "a"; }; }', 'health must have one of nats, tcp, http and exec'],
    ['{ inherit package; triggers = [ "a" ]; }', 'are for the lifecycle function alone, not for a service'],
    ['{ inherit package; lifecycle = "function"; }', 'triggers is missing: nothing else invokes a function'],
    ['{ inherit package; lifecycle = "job"; restart.policy = "always"; }', 'of a job is "on-failure" or "never"'],
  ])('refuses %s', async (settings, message) => {
    await expect(evaluate(`mkNexWorkload ${settings}`)).rejects.toThrow(message);
  });
});
