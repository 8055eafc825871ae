import { describe, expect, it } from 'vitest';
import type { Bid } from '../messages/auction-messages.ts';
import { createXKey, openEnvironment } from '../messages/sealed-environment.ts';
import { fittingOffers } from './fit.ts';
import type { WorkloadToPlace } from './workload-to-place.ts';

const key = createXKey();
const SEALED = JSON.stringify({
  type: 'object',
  additionalProperties: false,
  required: ['store_path'],
  properties: {
    store_path: { type: 'string' },
    environment: { type: 'object' },
    encrypted_environment: {
      type: 'object',
      required: ['base64_encrypted_env', 'encrypted_by'],
      properties: { base64_encrypted_env: { type: 'string', minLength: 40 }, encrypted_by: { pattern: '^X' } },
    },
  },
});
const CLEAR = '{"type":"object","properties":{"environment":{"type":"object"}}}';

const bid = (id: string, more: Partial<Bid> = {}): Bid => ({
  bidder_id: id,
  start_request_schema: '{}',
  supported_lifecycles: ['service'],
  xkey: key.getPublicKey(),
  ...more,
});
const web: WorkloadToPlace = {
  type: 'nix',
  name: 'web',
  lifecycle: 'service',
  runRequest: { store_path: '/nix/store/x', environment: { A: 'plain' } },
};
const ids = (bids: Bid[], more: Partial<WorkloadToPlace> = {}) =>
  fittingOffers(bids, { ...web, ...more }).map((offer) => offer.bid.bidder_id);
const written = (bids: Bid[], more: Partial<WorkloadToPlace>) =>
  fittingOffers(bids, { ...web, ...more }).map((offer) => offer.runRequest()) as Record<string, unknown>[];

describe('fittingOffers()', () => {
  it('keeps the bids whose lifecycles and schema take the workload', () => {
    const bids = [
      bid('jobs', { supported_lifecycles: ['job'] }),
      bid('nothing', { supported_lifecycles: [] }),
      bid('picky', { start_request_schema: '{"required":["uri"]}' }),
      bid('broken', { start_request_schema: '{' }),
      bid('fits'),
    ];
    expect(ids(bids)).toEqual(['fits']);
    expect(() => ids(bids, { lifecycle: 'function' })).toThrow(
      'No node can run a workload of type "nix" as function: 5 bid, for the lifecycles job, service',
    );
    expect(() => ids(bids.slice(2, 3))).toThrow(
      'Cannot start workload "web": its run request is not valid, field "uri" is required',
    );
    expect(() => ids(bids.slice(3, 4))).toThrow(expect.objectContaining({ code: 'NEX_REQUEST_INVALID' }));
  });

  it('looks at so many different schemas and no more', () => {
    const bids = Array.from({ length: 100 }, (_, n) => bid(`${n}`, { start_request_schema: `{"title":"${n % 20}"}` }));
    expect(ids(bids)).toHaveLength(80);
  });

  it('leaves out the nodes that are to be avoided, as far as they say who they are', () => {
    const bids = [bid('a', { node_id: 'NA' }), bid('b', { node_id: 'NB' }), bid('go')];
    expect(ids(bids, { avoid: ['NA'] })).toEqual(['b', 'go']);
    expect(() => ids(bids.slice(0, 2), { avoid: ['NA', 'NB'] })).toThrow('2 bid, all of them to be avoided');
  });

  it('seals an environment for the nexlet that bid, and nothing of it is readable', () => {
    const [request] = written([bid('a', { start_request_schema: SEALED })], { environment: { SECRET: 'hush' } });
    expect(JSON.stringify(request)).not.toContain('hush');
    expect(request).toMatchObject({ store_path: '/nix/store/x', environment: { A: 'plain' } });
    const sealed = request?.['encrypted_environment'] as Parameters<typeof openEnvironment>[0];
    expect(openEnvironment(sealed, key)).toEqual({ SECRET: 'hush' });
  });

  it('seals with the key that it is given', () => {
    const sender = createXKey();
    const bids = [bid('a', { start_request_schema: SEALED })];
    const [request] = written(bids, { environment: { A: '1' }, sender });
    expect(request?.['encrypted_environment']).toMatchObject({ encrypted_by: sender.getPublicKey() });
  });

  it('sends an environment in clear only where that is allowed, and only when nobody can open a sealed one', () => {
    const bids = [bid('clear', { start_request_schema: CLEAR }), bid('sealed', { start_request_schema: SEALED })];
    const environment = { SECRET: 'hush' };
    expect(ids(bids, { environment })).toEqual(['sealed']);
    expect(ids(bids, { environment, allowClearEnvironment: true })).toEqual(['sealed']);
    expect(() => ids(bids.slice(0, 1), { environment })).toThrow(
      expect.objectContaining({ code: 'NEX_ENVIRONMENT_IN_CLEAR', kind: 'refused' }),
    );
    expect(written(bids.slice(0, 1), { environment, allowClearEnvironment: true })).toEqual([
      { store_path: '/nix/store/x', environment: { A: 'plain', SECRET: 'hush' } },
    ]);
    expect(ids(bids, { environment: {} })).toEqual(['clear', 'sealed']);
  });

  it('refuses to put an environment where it cannot go', () => {
    expect(() => ids([bid('a')], { runRequest: 'text', environment: { A: '1' }, allowClearEnvironment: true })).toThrow(
      'its run request is no object',
    );
  });
});
