/**
 * Messages between a host and the agent of its guest, version 1. The specification is the README of this package; what is
 * said there of order, errors and what survives a broken channel holds for these types.
 */

/** Versions that this side speaks, best first. */
export const PROTOCOL_VERSIONS: readonly number[] = [1];

/** Name of the virtio-serial port, and port number of the vsock listener. */
export const PORT_NAME = 'nex.agent';
export const VSOCK_PORT = 1024;

/** Bytes of output that the agent keeps of each stream until the host has acknowledged them; then the program waits. */
export const OUTPUT_WINDOW = 1024 * 1024;

/** Highest number of bytes of one frame's payload that a guest sends. */
export const MAX_PAYLOAD = 256 * 1024;

/** The same for a host, whose `start` may have the whole standard input of a program. */
export const MAX_HOST_PAYLOAD = 16 * 1024 * 1024;

export type OutputStream = 'stdout' | 'stderr';

/** Bytes of each stream. */
export interface StreamPositions {
  stdout: number;
  stderr: number;
}

/** How a program ended. */
export interface GuestExit {
  /** As a shell has it: 128 + n when signal n ended it. */
  code: number;
  signal?: string;
  /** Its memory limit, or that of the guest, was reached and processes of it were killed. */
  outOfMemory: boolean;
}

/** What the agent is busy with. A guest runs one program in its life. */
export type GuestState = 'idle' | 'prepared' | 'running' | 'exited';

/** First message of the host on every connection. The agent answers with `welcome`, once it has thrown away what is older. */
export interface Hello {
  type: 'hello';
  versions: number[];
  /** Told back in `welcome`, so that the answer to an earlier host is not taken for ours. */
  session: string;
  /** Bytes of each stream that the host has for certain: output goes on there. */
  have: StreamPositions;
}

export interface Welcome {
  type: 'welcome';
  version: number;
  session: string;
  /** Version of the agent. */
  agent: string;
  /** Random for each boot, renewed by `identify`. */
  boot: string;
  state: GuestState;
  /** Present once the program has ended; its output may be under way still. */
  exit?: GuestExit;
  /** First byte of each stream that the agent still has: what `hello` said, unless one of the two has lost something. */
  from: StreamPositions;
}

/** Who a guest is: asked once, before `prepare`. Renews what a snapshot has made the same in several guests. */
export interface Identify {
  type: 'identify';
  hostname: string;
  /** Milliseconds of the Unix epoch. */
  time: number;
  /** Base64 of at least 32 random bytes, for the kernel's generator. */
  seed: string;
  /** Text of /etc/hosts and /etc/resolv.conf. */
  hosts: string;
  resolvConf: string;
  network?: GuestNetwork;
}

/** Addresses for the one network interface. */
export interface GuestNetwork {
  mac: string;
  /** In CIDR notation. */
  addresses: string[];
  gateways: string[];
  mtu?: number;
}

/** A store path, and where the guest finds it: in its own image, or on the disk in a slot, by the path's base name. */
export interface GuestStorePath {
  storePath: string;
  from: 'image' | 'disk';
}

/** Puts the program's file system together: mounts the disks, and shows what was asked for. */
export interface Prepare {
  type: 'prepare';
  /** Index of the slot whose disk holds the closure (erofs); absent when all of it is in the guest's image. */
  disk?: number;
  closure: GuestStorePath[];
  /** Bytes of the tmpfs /tmp, when there is no scratch disk. */
  tmp: number;
  /** Index of the slot with a writable disk for /tmp, which the agent formats. */
  scratch?: number;
  /** Files that only the program can read, by name, at `/run/<name>`. */
  privateFolder?: { path: string; files: Record<string, string> };
}

/** Limits inside the guest. What is absent is not limited. */
export interface GuestLimits {
  /** Bytes. */
  memory?: number;
  /** Processor time per wall time. */
  cpus?: number;
  /** Processes and threads. */
  pids?: number;
}

/** Executes the program. Answered when it was executed. */
export interface Start {
  type: 'start';
  program: string;
  argv: string[];
  environment: Record<string, string>;
  limits: GuestLimits;
  /** Base64; absent: standard input is empty. */
  stdin?: string;
}

/** Sends a signal to the program itself. */
export interface Signal {
  type: 'signal';
  /** `SIGTERM` and the like. */
  signal: string;
}

/** SIGKILL to everything of the program; answered when nothing of it is alive. */
export interface Kill {
  type: 'kill';
}

/** One more command beside the program, with the same rights and limits. Answered with `ExecAnswer` when it has ended. */
export interface Exec {
  type: 'exec';
  program: string;
  argv: string[];
  /** On top of the program's. */
  environment: Record<string, string>;
}

export interface ExecAnswer {
  code: number;
  /** Base64, both streams mixed, cut off after 4 KiB. */
  output: string;
}

/** Kills the command of an `exec`; that is then answered. */
export interface Cancel {
  type: 'cancel';
  /** `id` of the request. */
  exec: number;
}

/** Puts a file in place of one of the private folder, at once. Answered with `{ replaced: boolean }`. */
export interface Replace {
  type: 'replace';
  name: string;
  content: string;
}

/** Answered with `UsageAnswer`. */
export interface UsageRequest {
  type: 'usage';
}

/** Of the program and all it started. */
export interface UsageAnswer {
  memory?: number;
  memoryPeak?: number;
  cpuMicros?: number;
  pids?: number;
  network?: { received: number; sent: number };
}

/** Sets the clock. */
export interface Clock {
  type: 'clock';
  /** Milliseconds of the Unix epoch. */
  time: number;
}

/** Answered at once: the guest is alive. */
export interface Ping {
  type: 'ping';
}

/**
 * Does once all that a first program will take, so that a snapshot holds what that needs. Answered when a snapshot may be
 * taken. It pays after a restore as well, where the processor is emulated: that has all code to translate anew.
 */
export interface Settle {
  type: 'settle';
}

/** Powers the guest off; answered before that. */
export interface Shutdown {
  type: 'shutdown';
}

/** What the host asks for. Each has an `id`, and one answer with the same. */
export type GuestRequest =
  | Identify
  | Prepare
  | Start
  | Signal
  | Kill
  | Exec
  | Cancel
  | Replace
  | UsageRequest
  | Clock
  | Ping
  | Settle
  | Shutdown;

/** Output up to these positions is safe with the host. Not answered. */
export interface Ack extends StreamPositions {
  type: 'ack';
}

/** The host knows how the program ended. Not answered. */
export interface ExitAck {
  type: 'exit-ack';
}

export type HostMessage = Hello | Ack | ExitAck | (GuestRequest & { id: number });

export type GuestErrorCodeOnWire =
  /** The request makes no sense, or not now. */
  | 'invalid'
  | 'program-not-found'
  | 'program-not-executable'
  /** Anything else that went wrong inside. */
  | 'failed';

export interface Answer {
  type: 'answer';
  id: number;
  /** What the request is answered with; `{}` where nothing is said of it. */
  value?: unknown;
  error?: { code: GuestErrorCodeOnWire; message: string };
}

/** The program has ended. Comes after the last byte of its output, and again in `welcome` until it is acknowledged. */
export interface Exited {
  type: 'exited';
  exit: GuestExit;
}

export type GuestMessage = Welcome | Answer | Exited;

/** Bytes of the program's output, a frame of their own kind. */
export interface Output {
  stream: OutputStream;
  /** Position of the first byte in its stream. */
  position: number;
  bytes: Uint8Array;
}
