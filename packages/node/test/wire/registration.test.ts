import { join } from 'node:path';
import { RequestError } from '@nats-io/nats-core';
import { runRemoteNexlet } from '@nex-nix/nexlet';
import { natsConnectionData } from '@nex-nix/protocol';
import { waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fullAccessMinter, type Minter, startNode } from '../../src/index.ts';
import { memoryNexlet } from '../memory-nexlet.ts';
import { anyText, NUID, registration, ScriptedNexlet, WireBed, workload } from './bed.ts';

let bed: WireBed;
beforeAll(async () => {
  bed = await WireBed.start();
});
afterAll(() => bed[Symbol.asyncDispose]());

describe('REGISTER', () => {
  it('hands a Go nexlet its connection data, with no null in it', async () => {
    const reply = await bed.json(`$NEX.SVC.${bed.node.id}.agent.REGISTER.goagent1`, registration);
    expect(reply).toEqual({
      connection_data: {
        conn_name: '',
        nats_servers: [expect.stringContaining(':') as unknown],
        nats_user_jwt: '',
        nats_user_name: '',
        nats_user_nkey: '',
        nats_user_password: '',
        nats_user_seed: '',
        tls_ca: '',
        tls_cert: '',
        tls_first: false,
        tls_key: '',
      },
      existing_state: {},
      message: '',
      node_id: bed.node.id,
      success: true,
      asks_for_bids: true,
    });
  });

  it('hears the first heartbeat even when it follows the reply at once, and then bids', async () => {
    const summary = {
      name: 'go_exec',
      start_time: '2026-05-01T10:00:00Z',
      type: 'go',
      version: '0.0.0',
      workload_count: 0,
    };
    const beat = (state: string) =>
      bed.nc.publish(
        `$NEX.SVC.${bed.node.id}.agent.HEARTBEAT.goagent2`,
        JSON.stringify({ data: 'opaque', summary: { ...summary, state, supported_lifecycles: 'job' } }),
      );
    const auction = JSON.stringify({ agent_type: 'go', auction_id: 'a', tags: {} });
    await bed.json(`$NEX.SVC.${bed.node.id}.agent.REGISTER.goagent2`, {
      ...registration,
      register_type: 'go',
      max_workloads: 1,
    });
    await bed.expectSilence('$NEX.SVC.default.control.AUCTION', auction);
    beat('running');
    expect((await bed.ask('$NEX.SVC.default.control.AUCTION', auction)).json()).toMatchObject({
      supported_lifecycles: [],
    });
    beat('starting');
    await bed.expectSilence('$NEX.SVC.default.control.AUCTION', auction);
    summary.workload_count = 1;
    beat('running');
    await bed.expectSilence('$NEX.SVC.default.control.AUCTION', auction);
    summary.workload_count = 0;
    beat('running');
    await bed.ask('$NEX.SVC.default.control.AUCTION', auction);
    beat('stopping');
  });

  it('refuses by the rules of the page', async () => {
    const subject = `$NEX.SVC.${bed.node.id}.agent.REGISTER.goagent1`;
    const text = expect.any(String) as unknown;
    const refused = (body: object, code: string, header: string, error: unknown = text) =>
      bed.expectError(subject, JSON.stringify(body), { code, header, error });
    await refused({}, '400', 'failed to unmarshal register local agent request');
    await refused({ ...registration, register_type: '' }, '400', 'register_type is required');
    await refused({ ...registration, start_request_schema: '{' }, '400', 'failed to unmarshal start request schema');
    await refused(
      { ...registration, start_request_schema: '[]' },
      '500',
      'failed to compile schema',
      'internal server error',
    );
    const other = { ...registration, public_xkey: 'XOTHER' };
    await refused(other, '500', 'failed to update registration', 'internal server error');
  });

  it('lets a nexlet register again', async () => {
    await bed.json(`$NEX.SVC.${bed.node.id}.agent.REGISTER.goagent1`, { ...registration, version: '0.0.1' });
  });
});

describe('a nexlet that takes the place of another', () => {
  const auction = (type: string) =>
    bed.json('$NEX.SVC.default.control.AUCTION', { agent_type: type, auction_id: 'a', tags: null });

  it('may do so once the other one is dead, not before', async () => {
    const first = new ScriptedNexlet(bed, 'crashing', 'crashing');
    await first.register();
    first.beat();
    const again = {
      ...registration,
      register_type: 'crashing',
      supported_lifecycles: ['service'],
      public_xkey: 'XNEW',
    };
    const subject = `$NEX.SVC.${bed.node.id}.agent.REGISTER.crashing`;
    await bed.expectError(subject, JSON.stringify(again), {
      code: '500',
      header: 'failed to update registration',
      error: 'internal server error',
    });
    // Nobody listens where it should: a deployment finds that out.
    const { bidder_id: bid } = (await auction('crashing')) as { bidder_id: string };
    await bed.ask(`$NEX.SVC.default.control.ADEPLOY.${bid}`, JSON.stringify(workload({ workload_type: 'crashing' })));
    expect(await bed.json(subject, again)).toMatchObject({ success: true, node_id: bed.node.id });
    first.beat();
    expect(await auction('crashing')).toMatchObject({ xkey: 'XNEW' });
  });

  it('is listed in the heartbeat of the node while it is alive', async () => {
    await using beating = await WireBed.start({ heartbeatMs: 20 });
    const nexlet = new ScriptedNexlet(beating, 'listed', 'listed');
    let last = '';
    const beats = beating.nc.subscribe(`$NEX.SVC.system.control.HEARTBEAT.${beating.node.id}`, {
      callback: (_error, msg) => void (last = msg.json<{ registrations: string }>().registrations),
    });
    await nexlet.register();
    nexlet.beat();
    await waitFor('both', () => /^\w{22} \[memory\], listed \[listed\]$/.test(last));
    nexlet.beat({ state: 'stopping' });
    await waitFor('one', () => /^\w{22} \[memory\]$/.test(last));
    beats.unsubscribe();
  });
});

describe('RREGISTER', () => {
  const subject = '$NEX.SVC.nexus.agent.RREGISTER';

  it('is not served unless it is allowed', async () => {
    await expect(bed.ask(subject, '{}')).rejects.toThrow(RequestError);
  });

  it('is answered by one node of the nexus, with an id and what to register with', async () => {
    await using remote = await WireBed.start({ allowRemoteNexlets: true });
    await using second = await startNode(await remote.server.connect(), {
      name: 'n2',
      stateDir: join(remote.dir.path, 'n2'),
      version: '0.1.0',
      allowRemoteNexlets: true,
    });
    const replies: { respond_to: string; assigned_agent_id: string }[] = [];
    const subscription = remote.nc.subscribe('_INBOX.remote', {
      callback: (_error, msg) => void replies.push(msg.json()),
    });
    remote.nc.publish(subject, '{}', { reply: '_INBOX.remote' });
    await waitFor('a reply', () => replies.length > 0);
    await remote.ask('$NEX.SVC.system.control.PING', '{"filter":null}');
    subscription.unsubscribe();
    expect(replies).toEqual([
      {
        assigned_agent_id: expect.stringMatching(NUID) as unknown,
        respond_to: expect.toBeOneOf([remote.node.id, second.id]) as unknown,
        registration_creds: expect.objectContaining({ nats_user_jwt: '', tls_first: false }) as unknown,
      },
    ]);
    const [reply] = replies;
    const register = `$NEX.SVC.${reply?.respond_to}.agent.REGISTER.${reply?.assigned_agent_id}`;
    expect(await remote.json(register, registration)).toMatchObject({ success: true });
    const info = (await remote.ask('$SRV.INFO.nexnode', '')).json<{
      endpoints: { name: string; queue_group: string }[];
    }>();
    expect(info.endpoints.find(({ name }) => name === 'RegisterRemoteAgent')?.queue_group).toBe('nexus');
    expect(info.endpoints).toHaveLength(13);
    await remote.expectError(subject, 'not json', {
      code: '400',
      header: 'failed to unmarshal register remote agent request',
      error: anyText,
    });
  });

  it('a nexlet of the SDK finds its node by it', async () => {
    await using remote = await WireBed.start({ allowRemoteNexlets: true });
    const nexlet = memoryNexlet({ name: 'far', type: 'far' });
    const connection = natsConnectionData({ nats_servers: [remote.server.url] });
    await using running = await runRemoteNexlet(nexlet.definition, { connection });
    await waitFor('a bid for it', () => remote.bidsFor('far'));
    expect(running.agentId).toMatch(NUID);
  });
});

describe('who may not register, and what cannot be minted', () => {
  it('is answered by the texts of the page', async () => {
    const fail = async () => Promise.reject(new Error('no key'));
    let minter: Minter = fullAccessMinter({ servers: [] });
    await using strict = await WireBed.start((url) => {
      minter = { ...fullAccessMinter({ servers: [url] }), workload: fail };
      return { allowRemoteNexlets: true, minter, admit: ({ register_type: type }) => type !== 'native' };
    });
    const internal = { code: '500', error: 'internal server error' };
    const deployment = `$NEX.SVC.default.control.ADEPLOY.${await strict.bid()}`;
    await strict.expectError(deployment, JSON.stringify(workload()), {
      ...internal,
      header: 'failed to mint workload nats connection',
    });
    const register = `$NEX.SVC.${strict.node.id}.agent.REGISTER.x`;
    await strict.expectError(register, JSON.stringify(registration), {
      code: '403',
      header: 'failed agent registrar check',
      error: 'a nexlet of type "native" may not register here',
    });
    minter.agent = fail;
    minter.registration = fail;
    const other = { ...registration, register_type: 'other' };
    await strict.expectError(register, JSON.stringify(other), {
      ...internal,
      header: 'failed to mint nats connection',
    });
    await strict.expectError('$NEX.SVC.nexus.agent.RREGISTER', '{}', {
      ...internal,
      header: 'failed to mint register',
    });
  });
});
