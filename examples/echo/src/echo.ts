import { AuthorizationError, jwtAuthenticator, type NatsConnection } from '@nats-io/nats-core';
import { type Service, Svcm } from '@nats-io/services';
import { connect } from '@nats-io/transport-node';

const NAME = 'EchoService';
const VERSION = '1.0.0';
const SUBJECT = 'svc.echo';
const RETRY_MS = 500;

/** Exit codes: 0 after SIGTERM or SIGINT, 1 when NATS refuses the service, 2 when the environment is incomplete. */
main(process.env['NATS_URL'] ?? '', process.env['NATS_JWT'] ?? '').then(
  (code) => process.exit(code),
  (error: unknown) => {
    print(process.stderr, `Cannot run the echo service: ${explain(error)}`);
    process.exit(1);
  },
);

async function main(url: string, jwt: string): Promise<number> {
  if (url === '') {
    print(process.stderr, 'Cannot run the echo service: NATS_URL is not set');
    print(process.stderr, 'Try NATS_URL=nats://127.0.0.1:4222, and NATS_JWT=<user JWT> where the server wants one');
    return 2;
  }
  const stopped = nextSignal();
  const started = await Promise.race([start(url, jwt), stopped]);
  if (typeof started === 'string') return 0;
  const { nc, service } = started;
  print(process.stdout, `${NAME} ${VERSION} ready on ${SUBJECT} at ${nc.getServer()} with id ${service.info().id}`);
  const reason = await Promise.race([stopped, nc.closed()]);
  if (typeof reason !== 'string') throw reason ?? new Error('the connection was closed');
  print(process.stdout, `${NAME} stopping on ${reason}`);
  await service.stop();
  await nc.drain();
  return 0;
}

/** Waits as long as it takes for a server, but does not insist on one that refuses the JWT. */
async function start(url: string, jwt: string): Promise<{ nc: NatsConnection; service: Service }> {
  const nc = await connect({
    servers: url.split(','),
    name: NAME,
    waitOnFirstConnect: true,
    maxReconnectAttempts: -1,
    reconnectTimeWait: RETRY_MS,
    ...(jwt === '' ? {} : { authenticator: jwtAuthenticator(jwt) }),
  });
  const service = await new Svcm(nc).add({
    name: NAME,
    version: VERSION,
    description: 'Answers with what it was sent',
  });
  service.addEndpoint('echo', {
    subject: SUBJECT,
    handler: (error, message) => {
      if (error === null) message.respond(message.data);
    },
  });
  await nc.flush();
  return { nc, service };
}

async function nextSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    process.once('SIGTERM', resolve);
    process.once('SIGINT', resolve);
  });
}

function explain(error: unknown): string {
  if (error instanceof AuthorizationError) return 'NATS refuses it. Check NATS_JWT: it must be a valid bearer JWT';
  return error instanceof Error ? error.message : String(error);
}

function print(stream: NodeJS.WriteStream, line: string): void {
  stream.write(`${line}\n`);
}
