import { headers, type Msg, type MsgHdrs } from '@nats-io/nats-core';
import { NexError } from '@nex-nix/errors';
import { describe, expect, it } from 'vitest';
import { agentErrorReply, nodeErrorReply, readErrorReply } from './error-reply.ts';

const message = (data: string, head?: MsgHdrs) => ({ headers: head, string: () => data }) as Partial<Msg> as Msg;

function goHeaders(text: string, code: string): MsgHdrs {
  const result = headers();
  result.set('Nats-Service-Error', text);
  result.set('Nats-Service-Error-Code', code);
  return result;
}

class ToolError extends NexError<'TOOL_MISSING'> {}

describe('nodeErrorReply()', () => {
  it('carries both headers and a body as Go nodes do', () => {
    const reply = nodeErrorReply(403, 'namespace mismatch: a != b', 'namespace mismatch');
    expect(reply.headers.get('Nats-Service-Error')).toBe('namespace mismatch: a != b');
    expect(reply.headers.get('Nats-Service-Error-Code')).toBe('403');
    expect(JSON.parse(reply.data)).toEqual({
      error_id: expect.stringMatching(/^[0-9A-Za-z]{22}$/) as unknown,
      error: 'namespace mismatch',
    });
  });

  it('keeps the detail of an internal error to itself', () => {
    const reply = nodeErrorReply(500, 'failed to mint nats connection', 'the seed is SA…');
    expect(JSON.parse(reply.data)).toMatchObject({ error: 'internal server error', error_id: reply.errorId });
  });

  it('keeps a header on one line', () => {
    expect(nodeErrorReply(400, 'a\r\nX-Evil: 1').headers.get('Nats-Service-Error')).toBe('a X-Evil: 1');
  });
});

describe('readErrorReply()', () => {
  it('is undefined for an ordinary reply', () => {
    expect(readErrorReply(message('{}'))).toBeUndefined();
    expect(readErrorReply(message('{}', headers()))).toBeUndefined();
  });

  it.each([
    [400, 'NEX_PEER_BAD_REQUEST', 'usage'],
    [403, 'NEX_PEER_REFUSED', 'refused'],
    [404, 'NEX_PEER_NOT_FOUND', 'not-found'],
    [500, 'NEX_PEER_FAILED', 'failed'],
  ] as const)('gives %d a code and a kind', (status, code, kind) => {
    const reply = nodeErrorReply(status, 'friendly');
    const error = readErrorReply(message(reply.data, reply.headers));
    expect(error).toMatchObject({ code, kind, message: 'friendly' });
    expect(error?.hint).toContain(reply.errorId);
  });

  it('prefers the text of the body, as the Go client does', () => {
    const reply = nodeErrorReply(400, 'failed to validate run request', 'field "x" is required');
    expect(readErrorReply(message(reply.data, reply.headers))?.message).toBe('field "x" is required');
  });

  it('reads errors of Go nexlets: code 100, any body or none', () => {
    const head = goHeaders('no such file', '100');
    expect(readErrorReply(message('', head))?.message).toBe('no such file');
    expect(readErrorReply(message('{"id":"w","name":"x"}', head))).toMatchObject({
      message: 'no such file',
      kind: 'failed',
    });
    expect(readErrorReply(message('[]', goHeaders('', '100')))?.message).toBe('The peer answers with error 100');
  });

  it('gets kind and hint back from nexlets of this project', () => {
    const thrown = new ToolError('not-found', 'TOOL_MISSING', 'Cannot find "crun"', { hint: 'apt-get install crun' });
    const reply = agentErrorReply(thrown, { id: 'w', name: 'x' });
    expect(JSON.parse(reply.data)).toMatchObject({ id: 'w', name: 'x' });
    expect(reply.headers.get('Nats-Service-Error-Code')).toBe('100');
    expect(readErrorReply(message(reply.data, reply.headers))).toMatchObject({
      code: 'NEX_PEER_NOT_FOUND',
      message: 'Cannot find "crun"',
      hint: 'apt-get install crun',
    });
  });
});
