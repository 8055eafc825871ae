import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { CliError } from '../cli-error.ts';
import { checkRunRequestOptions, lifecycleOf, mergeRunRequest, needsOf, runRequestOf } from './run-request.ts';
import { addRunRequestOptions, type RunRequestOptions } from './run-request-options.ts';

/** What the options of a command line amount to. */
function optionsOf(line: string): RunRequestOptions {
  const command = addRunRequestOptions(new Command('x'));
  command.exitOverride().configureOutput({ outputError: () => undefined });
  const words = line === '' ? [] : line.split(/ (?=--)/).flatMap(split);
  return command.parse(words, { from: 'user' }).opts();
}

/** `--health exec:bin/check --fast` is one option with one value. */
function split(part: string): string[] {
  const at = part.indexOf(' ');
  return at === -1 ? [part] : [part.slice(0, at), part.slice(at + 1)];
}

describe('options of a start request', () => {
  it.each([
    ['--network bridge --expose 80 --expose 443 --expose 80', { network: 'bridge', expose_ports: [80, 443] }],
    [
      '--memory 256MiB --cpus 0.5 --pids 32 --tmp 1GiB --log-rate 64KiB',
      { resources: { memory: '256MiB', cpus: 0.5, pids: 32, tmp: '1GiB', log_rate: '64KiB' } },
    ],
    ['--restart always', { restart: { policy: 'always' } }],
    ['--restart on-failure:5 --backoff 1m30s', { restart: { policy: 'on-failure', max_retries: 5, backoff: '90s' } }],
    ['--sandbox microvm --network none', { sandbox: 'microvm', network: 'none' }],
    ['--backoff 250ms', { restart: { backoff: '250ms' } }],
    ['--health nats:web.health --health-interval 2m', { health: { nats: 'web.health', interval: '2m' } }],
    ['--health tcp:8080 --health-timeout 0.5s', { health: { tcp: 8080, timeout: '500ms' } }],
    ['--health http://:8080 --health-retries 2', { health: { http: { port: 8080, path: '/' }, retries: 2 } }],
    [
      '--health http://:80/up?a=1 --start-timeout 2h',
      { health: { http: { port: 80, path: '/up?a=1' }, start_timeout: '120m' } },
    ],
    ['--health exec:bin/check -v now', { health: { exec: ['bin/check', '-v', 'now'] } }],
    [
      '--trigger orders.* --trigger mail.> --function-timeout 5s --concurrency 4 --warm 0',
      { triggers: ['orders.*', 'mail.>'], function: { timeout: '5s', concurrency: 4, warm: 0 } },
    ],
    ['--stop-signal int --stop-grace 3s', { stop: { signal: 'SIGINT', grace: '3s' } }],
    ['', {}],
  ])('%s', (line, request) => {
    expect(runRequestOf(optionsOf(line))).toEqual(request);
  });

  it.each([
    ['--expose 0', 'Cannot take "0" for a port'],
    ['--expose web', 'Cannot take "web" for a port'],
    ['--memory 1', 'Cannot take "1" for a size'],
    ['--memory 0MiB', 'Cannot take "0MiB" for a size'],
    ['--tmp 1TiB', 'Cannot take "1TiB" for a size'],
    ['--restart sometimes', 'Cannot take "sometimes" for when to restart: write always, on-failure, never'],
    ['--restart on-failure:x', 'Cannot take "on-failure:x" for when to restart'],
    ['--backoff soon', 'Cannot take "soon" for a duration'],
    ['--health 8080', 'Cannot take "8080" for a health check: it begins with none of'],
    ['--health tcp:x', 'Cannot take "x" for a port'],
    ['--health http://host:80/', 'write http://:PORT/PATH, without a host'],
    ['--health nats:a.>', 'is no subject to send to'],
    ['--health-retries 0', 'write a whole number from 1'],
    ['--trigger a..b', 'Cannot take "a..b" for a trigger'],
    ['--trigger >', 'Cannot take ">" for a trigger'],
    ['--concurrency 0', 'write a whole number from 1 to 1024'],
    ['--warm 65', 'write a whole number from 0 to 64'],
    ['--stop-signal 9', 'Cannot take "9" for a signal'],
  ])('refuses %s', (line, message) => {
    expect(() => optionsOf(line)).toThrow(CliError);
    expect(() => optionsOf(line)).toThrow(message);
  });

  it('refuses what makes no sense together', () => {
    const nix = { type: 'nix', lifecycle: undefined };
    expect(() => checkRunRequestOptions(optionsOf('--trigger a'), nix)).not.toThrow();
    expect(() => checkRunRequestOptions(optionsOf('--trigger a'), { ...nix, lifecycle: 'job' })).toThrow(
      'Cannot trigger a job',
    );
    expect(() => checkRunRequestOptions(optionsOf('--network none --expose 1'), nix)).toThrow('without network');
    expect(() => checkRunRequestOptions(optionsOf('--sandbox microvm --network host'), nix)).toThrow(
      'a kernel of its own',
    );
    expect(() => checkRunRequestOptions(optionsOf('--memory 1MiB'), { ...nix, type: 'native' })).toThrow(
      'Cannot say how a workload of type "native" runs',
    );
    expect(() => checkRunRequestOptions({}, { ...nix, type: 'native' })).not.toThrow();
  });
});

describe('mergeRunRequest()', () => {
  const base = { store_path: 'p', resources: { memory: '1MiB', pids: 3 }, health: { tcp: 80, retries: 2 } };

  it('puts groups together field by field', () => {
    expect(mergeRunRequest(base, { resources: { memory: '2MiB' }, network: 'none' })).toEqual({
      ...base,
      network: 'none',
      resources: { memory: '2MiB', pids: 3 },
    });
  });

  it('keeps one way to check health', () => {
    expect(mergeRunRequest(base, { health: { nats: 'a' } })).toMatchObject({ health: { nats: 'a', retries: 2 } });
    expect(mergeRunRequest(base, { health: { nats: 'a' } })).not.toHaveProperty('health.tcp');
    expect(mergeRunRequest(base, { health: { interval: '1s' } })).toHaveProperty('health.tcp', 80);
  });

  it('leaves a request alone that nothing changes, and refuses to change what is none', () => {
    expect(mergeRunRequest('text', {})).toBe('text');
    expect(() => mergeRunRequest('text', { network: 'none' })).toThrow('it is no JSON object');
  });
});

it('says what nodes must have', () => {
  const request = { sandbox: 'microvm', resources: { memory: '2MiB', cpus: 0.5 }, expose_ports: [80] };
  expect(needsOf(request)).toEqual({ sandbox: 'microvm', memory: 2 ** 21, cpus: 0.5, ports: [80] });
  expect(needsOf({ sandbox: 1, resources: { memory: 'much' }, expose_ports: 80 })).toEqual({});
  expect(needsOf(undefined)).toEqual({});
});

it('takes what has triggers for a function', () => {
  expect(lifecycleOf({ triggers: ['a'] })).toBe('function');
  expect(lifecycleOf({ triggers: [] })).toBe('service');
});
