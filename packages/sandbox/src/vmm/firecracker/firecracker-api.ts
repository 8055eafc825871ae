import { type IncomingMessage, request } from 'node:http';
import { SandboxError } from '../../sandbox-error.ts';
import type {
  ActionType,
  BootSource,
  Drive,
  DriveUpdate,
  EntropyDevice,
  InstanceInfo,
  Logger,
  MachineConfiguration,
  Metrics,
  NetworkInterface,
  SerialDevice,
  SnapshotCreate,
  SnapshotLoad,
  VmState,
  Vsock,
} from './api-types.ts';
import { UnixAgent } from './unix-agent.ts';

/** Milliseconds for a request: most are answered in one; the start and a pause wait for each virtual processor, 30 s at worst. */
const TIMEOUT = 40_000;

/** A snapshot is written to disk with all the guest's memory before it is answered. */
const SNAPSHOT_TIMEOUT = 120_000;

/** Bytes of an answer. The longest one that we ask for is a few hundred. */
const MAX_ANSWER = 64 * 1024;

/** Bytes of a request that Firecracker reads by default (`--http-api-max-payload-size`). */
const MAX_REQUEST = 51_200;

const STATES: readonly unknown[] = ['Not started', 'Running', 'Paused'] satisfies InstanceInfo['state'][];

type Method = 'GET' | 'PUT' | 'PATCH';

/**
 * Client of the API of one Firecracker process: HTTP over its Unix socket. Requests are sent one at a time, as they are
 * served, over one connection that is kept.
 *
 * All methods throw SandboxError SANDBOX_VMM_FAILED, which names the request: when Firecracker refuses it (with its own
 * words), does not answer in time, has ended, or answers what its description does not have.
 */
export class FirecrackerApi implements Disposable {
  readonly #timeout: number;
  readonly #agent: UnixAgent;
  #last: Promise<unknown> = Promise.resolve();

  /** @param name Of the socket in `folder`. */
  constructor(folder: string, name: string, { timeout = TIMEOUT }: { timeout?: number } = {}) {
    this.#agent = new UnixAgent(folder, name);
    this.#timeout = timeout;
  }

  async instance(): Promise<InstanceInfo> {
    const answer = await this.#get('/');
    const { app_name, id, state, vmm_version } = answer;
    if (typeof app_name !== 'string' || typeof id !== 'string' || typeof vmm_version !== 'string')
      throw odd('GET', '/');
    if (!STATES.includes(state)) throw odd('GET', '/');
    return { app_name, id, state: state as InstanceInfo['state'], vmm_version };
  }

  /** As in `1.16.1`. */
  async version(): Promise<string> {
    const { firecracker_version: version } = await this.#get('/version');
    if (typeof version !== 'string') throw odd('GET', '/version');
    return version;
  }

  async machineConfig(): Promise<Pick<MachineConfiguration, 'vcpu_count' | 'mem_size_mib'>> {
    const { vcpu_count, mem_size_mib } = await this.#get('/machine-config');
    if (typeof vcpu_count !== 'number' || typeof mem_size_mib !== 'number') throw odd('GET', '/machine-config');
    return { vcpu_count, mem_size_mib };
  }

  async putMachineConfig(body: MachineConfiguration): Promise<void> {
    await this.#send('PUT', '/machine-config', body);
  }

  async putBootSource(body: BootSource): Promise<void> {
    await this.#send('PUT', '/boot-source', body);
  }

  async putDrive(id: string, drive: Drive): Promise<void> {
    await this.#send('PUT', `/drives/${checkedId(id)}`, { drive_id: id, ...drive });
  }

  async patchDrive(id: string, update: DriveUpdate): Promise<void> {
    await this.#send('PATCH', `/drives/${checkedId(id)}`, { drive_id: id, ...update });
  }

  async putNetworkInterface(id: string, network: NetworkInterface): Promise<void> {
    await this.#send('PUT', `/network-interfaces/${checkedId(id)}`, { iface_id: id, ...network });
  }

  async putVsock(body: Vsock): Promise<void> {
    await this.#send('PUT', '/vsock', body);
  }

  async putEntropy(body: EntropyDevice = {}): Promise<void> {
    await this.#send('PUT', '/entropy', body);
  }

  async putLogger(body: Logger): Promise<void> {
    await this.#send('PUT', '/logger', body);
  }

  async putMetrics(body: Metrics): Promise<void> {
    await this.#send('PUT', '/metrics', body);
  }

  /** Since 1.14. */
  async putSerial(body: SerialDevice): Promise<void> {
    await this.#send('PUT', '/serial', body);
  }

  async action(type: ActionType): Promise<void> {
    await this.#send('PUT', '/actions', { action_type: type });
  }

  async patchVm(state: VmState): Promise<void> {
    await this.#send('PATCH', '/vm', { state });
  }

  async createSnapshot(body: SnapshotCreate): Promise<void> {
    await this.#send('PUT', '/snapshot/create', body, Math.max(this.#timeout, SNAPSHOT_TIMEOUT));
  }

  /** When it fails the process ends, too. */
  async loadSnapshot(body: SnapshotLoad): Promise<void> {
    await this.#send('PUT', '/snapshot/load', body);
  }

  /** Closes the connection. */
  [Symbol.dispose](): void {
    this.#agent.destroy();
  }

  async #get(path: string): Promise<Record<string, unknown>> {
    const { status, body } = await this.#inTurn('GET', path);
    const answer = status === 200 ? parseObject(body) : undefined;
    if (answer === undefined) throw odd('GET', path);
    return answer;
  }

  async #send(method: Method, path: string, body: object, timeout?: number): Promise<void> {
    const { status } = await this.#inTurn(method, path, JSON.stringify(body), timeout);
    if (status !== 204) throw odd(method, path);
  }

  /** The answer to a request, once those before it are answered; throws when it is no success. */
  async #inTurn(method: Method, path: string, body?: string, timeout = this.#timeout) {
    const turn = this.#last.then(() => this.#exchange({ method, path, body, timeout }));
    this.#last = turn.catch(() => undefined);
    const answer = await turn;
    if (answer.status >= 300) throw failed(method, path, faultMessage(answer));
    return answer;
  }

  async #exchange({
    method,
    path,
    body,
    timeout,
  }: {
    method: Method;
    path: string;
    body?: string | undefined;
    timeout: number;
  }) {
    const length = body === undefined ? 0 : Buffer.byteLength(body);
    if (length > MAX_REQUEST) throw failed(method, path, `the request has ${length} bytes, more than ${MAX_REQUEST}`);
    const signal = AbortSignal.timeout(timeout);
    try {
      const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
      const headers = { accept: 'application/json', ...(body === undefined ? {} : sized(length)) };
      request({ agent: this.#agent, method, path, headers, signal })
        .on('response', resolve)
        .on('error', reject)
        .end(body);
      const response = await promise;
      return { status: response.statusCode ?? 0, body: await limitedText(response) };
    } catch (error) {
      const why = signal.aborted ? `no answer within ${timeout / 1000} s` : (error as Error).message;
      throw failed(method, path, why, error);
    }
  }
}

/** Firecracker takes no chunked bodies. */
function sized(length: number) {
  return { 'content-type': 'application/json', 'content-length': length };
}

async function limitedText(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > MAX_ANSWER) throw new Error(`the answer has more than ${MAX_ANSWER} bytes`);
  }
  return Buffer.concat(chunks).toString();
}

function parseObject(json: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}

function faultMessage({ status, body }: { status: number; body: string }): string {
  const fault = parseObject(body)?.['fault_message'];
  return typeof fault === 'string' ? fault : `it answered with status ${status}`;
}

/** Ids in paths: letters, digits and underscores; the instance's own id is another matter. */
function checkedId(id: string): string {
  if (!/^[A-Za-z0-9_]{1,64}$/.test(id)) throw new TypeError(`"${id}" is no id of a Firecracker device`);
  return id;
}

function odd(method: Method, path: string): SandboxError {
  return failed(method, path, 'the answer is not what its description says');
}

function failed(method: Method, path: string, why: string, cause?: unknown): SandboxError {
  const message = `Cannot ${method} "${path}" of Firecracker: ${why}`;
  return new SandboxError('SANDBOX_VMM_FAILED', message, cause === undefined ? {} : { cause });
}
