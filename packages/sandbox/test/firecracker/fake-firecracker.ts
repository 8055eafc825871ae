/**
 * What the `firecracker` executable is to those who talk to it, without a virtual machine: it takes its options, serves
 * its API on a Unix socket, checks each request against the published description and for its moment, opens the files
 * that are named in it with the rights that it has, and binds the vsock's socket. Each request is appended to
 * `requests.jsonl` in its folder.
 *
 * The guest's end of the vsock port 1024 answers a line with `echo <line>`, but does what `reboot`, `panic`, `crash` and
 * `disk <n>` say. `NEX_FAKE_VERSION` is the version that it behaves like.
 */
import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { parseArgs } from 'node:util';
import { CONFIGURES } from './api-description.ts';
import { type CheckedRequest, checkRequest } from './check-request.ts';

const VERSION = process.env['NEX_FAKE_VERSION'] ?? '1.16.1';
const MINOR = Number(VERSION.split('.')[1]);
const AGENT_PORT = 1024;

interface FakeDrive {
  path: string;
  readOnly: boolean;
}

/** All that a snapshot holds. */
interface Machine {
  version: string;
  drives: Record<string, FakeDrive>;
  taps: Record<string, string>;
  vsock?: string;
  memory: number;
  kernel?: string;
  /** Stands for what the guest has in its memory. */
  booted?: string;
}

const { values: options } = parseArgs({
  allowPositionals: false,
  options: {
    'api-sock': { type: 'string', default: '/run/firecracker.socket' },
    id: { type: 'string', default: 'anonymous-instance' },
    'log-path': { type: 'string' },
    level: { type: 'string' },
    version: { type: 'boolean' },
    // What the jailer adds.
    'start-time-us': { type: 'string' },
    'start-time-cpu-us': { type: 'string' },
    'parent-cpu-time-us': { type: 'string' },
  },
});
if (options.version === true) {
  console.log(`Firecracker v${VERSION}\n\nSupported snapshot data format versions: v1.0.0`);
  process.exit(0);
}
if (!/^[A-Za-z0-9-]{1,64}$/.test(options.id)) throw new Error(`Invalid instance ID: ${options.id}`);
// Older ones take no log file that is not there.
const log = options['log-path'] === undefined ? 1 : openSync(options['log-path'], 'r+');

let machine: Machine = { version: VERSION, drives: {}, taps: {}, memory: 128 };
let state: 'Not started' | 'Running' | 'Paused' = 'Not started';
let isConfigured = false;

function say(line: string): void {
  writeSync(log, `2026-01-01T00:00:00.000000000 [${options.id}:main] ${line}\n`);
}

function end(code: number): never {
  if (code === 0)
    say(MINOR >= 16 ? 'Firecracker exiting successfully. exit_code=0' : 'Firecracker exited successfully');
  else {
    console.error(`Error: RunWithApi(MicroVMStoppedWithError(${code}))`);
    say(
      MINOR >= 16
        ? `Firecracker exiting with error. exit_code=${code}`
        : `RunWithApiError error: MicroVM stopped with an error: ${code}`,
    );
  }
  process.exit(code);
}

function openDrive({ path, readOnly }: FakeDrive): void {
  closeSync(openSync(path, readOnly ? 'r' : 'r+'));
}

/** As the device does it: an existing file is an error. */
async function bindVsock(path: string): Promise<void> {
  if (existsSync(path)) throw new Error('Cannot create backend for vsock device: UnixBind(Address in use)');
  const server = createServer((socket) => serveVsock(socket));
  server.listen(path);
  await new Promise<void>((resolve, reject) => void server.once('listening', resolve).once('error', reject));
}

function serveVsock(socket: Socket): void {
  let isConnected = false;
  let rest = '';
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk) => {
    const lines = (rest + chunk.toString()).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (isConnected) guestHears(line, socket);
      // Nobody listens before the guest runs.
      else if (state !== 'Running' || line !== `CONNECT ${AGENT_PORT}`) socket.destroy();
      else {
        isConnected = true;
        socket.write('OK 1073741824\n');
      }
    }
  });
}

function guestHears(line: string, socket: Socket): void {
  const disk = /^disk (\d)$/.exec(line)?.[1];
  const drive = machine.drives[`slot${disk}`];
  if (line === 'reboot') return end(0);
  if (line === 'panic') {
    console.log('Kernel panic - not syncing: sysrq triggered crash');
    return end(0);
  }
  if (line === 'crash') return end(1);
  if (line === 'boot') socket.write(`${machine.booted}\n`);
  else if (drive !== undefined) socket.write(`${statSync(drive.path).size} ${drive.readOnly ? 'ro' : 'rw'}\n`);
  else socket.write(`echo ${line}\n`);
}

async function act({ name, id = '', body }: CheckedRequest): Promise<object | undefined> {
  const words = body as Record<string, string>;
  switch (name) {
    case 'GET /':
      return { app_name: 'Firecracker', id: options.id, state, vmm_version: VERSION };
    case 'GET /version':
      return { firecracker_version: VERSION };
    case 'GET /machine-config':
      return { vcpu_count: 1, mem_size_mib: machine.memory, smt: false, track_dirty_pages: false };
    case 'PUT /machine-config':
      machine.memory = body['mem_size_mib'] as number;
      return undefined;
    case 'PUT /boot-source':
      for (const key of ['kernel_image_path', 'initrd_path']) closeSync(openSync(words[key] ?? '', 'r'));
      machine.kernel = words['kernel_image_path'] ?? '';
      return undefined;
    case 'PUT /drives/{id}':
      machine.drives[id] = { path: words['path_on_host'] ?? '', readOnly: body['is_read_only'] === true };
      return openDrive(machine.drives[id]) ?? undefined;
    case 'PATCH /drives/{id}': {
      const drive = machine.drives[id];
      if (drive === undefined) throw new Error(`Invalid device ID: ${id}`);
      const changed = { ...drive, path: words['path_on_host'] ?? drive.path };
      openDrive(changed);
      machine.drives[id] = changed;
      return undefined;
    }
    case 'PUT /network-interfaces/{id}':
      machine.taps[id] = words['host_dev_name'] ?? '';
      return undefined;
    case 'PUT /vsock':
      machine.vsock = words['uds_path'] ?? '';
      await bindVsock(machine.vsock);
      return undefined;
    case 'PUT /actions':
      if (words['action_type'] === 'InstanceStart') start();
      return undefined;
    case 'PATCH /vm':
      state = words['state'] === 'Paused' ? 'Paused' : 'Running';
      return undefined;
    case 'PUT /snapshot/create':
      if (state !== 'Paused') throw new Error('Cannot save the microVM state: it is not paused');
      writeFileSync(words['snapshot_path'] ?? '', JSON.stringify(machine));
      writeFileSync(words['mem_file_path'] ?? '', randomBytes(4096));
      return undefined;
    case 'PUT /snapshot/load':
      await load(body);
      return undefined;
    default:
      return undefined;
  }
}

function start(): void {
  if (state !== 'Not started') throw new Error('The requested operation is not supported after starting the microVM.');
  if (machine.kernel === undefined) throw new Error('Cannot start microvm without kernel configuration.');
  if (!readFileSync(machine.kernel).subarray(0, 4).equals(Buffer.from('\x7fELF'))) {
    throw new Error(
      'Cannot load kernel due to invalid memory configuration or invalid kernel image: Elf: Invalid magic',
    );
  }
  machine.booted = randomBytes(8).toString('hex');
  state = 'Running';
  console.log('[    0.000000] Linux version 6.1.0');
}

/** What fails ends the process. */
async function load(body: Record<string, unknown>): Promise<void> {
  try {
    if (isConfigured)
      throw new Error('Loading a microVM snapshot not allowed after configuring boot-specific resources.');
    const backend = body['mem_backend'] as { backend_path: string };
    machine = JSON.parse(readFileSync(body['snapshot_path'] as string, 'utf8')) as Machine;
    if (machine.version !== VERSION) throw new Error('Snapshot file version is not supported');
    closeSync(openSync(backend.backend_path, 'r'));
    for (const drive of Object.values(machine.drives)) openDrive(drive);
    for (const override of (body['network_overrides'] ?? []) as { iface_id: string; host_dev_name: string }[]) {
      if (machine.taps[override.iface_id] === undefined) throw new Error('Unknown Network Device');
      machine.taps[override.iface_id] = override.host_dev_name;
    }
    if (machine.vsock !== undefined) await bindVsock(machine.vsock);
    state = body['resume_vm'] === true ? 'Running' : 'Paused';
  } catch (error) {
    setImmediate(() => end(1));
    throw error;
  }
}

function checkPhase({ name, operation: { phase } }: CheckedRequest): void {
  const isBefore = state === 'Not started';
  if (phase === 'before start' && !isBefore)
    throw new Error('The requested operation is not supported after starting the microVM.');
  if (phase === 'after start' && isBefore)
    throw new Error('The requested operation is not supported before starting the microVM.');
  if (CONFIGURES.includes(name)) isConfigured = true;
}

async function answer(method: string, path: string, json: string): Promise<[status: number, body?: object]> {
  try {
    const request = checkRequest({ method, path, body: json }, MINOR);
    checkPhase(request);
    const value = await act(request);
    return value === undefined ? [204] : [200, value];
  } catch (error) {
    return [400, { fault_message: (error as Error).message }];
  }
}

function send(response: ServerResponse, [status, body]: [status: number, body?: object]): void {
  const json = body === undefined ? '' : JSON.stringify(body);
  response.writeHead(status, { server: 'Firecracker API', 'content-length': json.length }).end(json);
}

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { method = '', url = '' } = request;
  const json = await text(request);
  const answered = await answer(method, url, json);
  const body = json === '' ? {} : { body: JSON.parse(json) as unknown };
  appendFileSync('requests.jsonl', `${JSON.stringify({ method, path: url, ...body, status: answered[0] })}\n`);
  send(response, answered);
}

if (existsSync(options['api-sock'])) {
  say('RunWithApi error: Failed to open the API socket: IO error: Address in use');
  end(1);
}
say(`Running Firecracker v${VERSION}`);
createHttpServer((request, response) => void serve(request, response)).listen(options['api-sock']);
