/** One store path of a closure. */
export interface ClosurePath {
  /** Where the sandbox shows it: `/nix/store/<hash>-<name>`. */
  storePath: string;
  /** Where it lies on this machine: absolute path of a file, folder or symbolic link. */
  source: string;
}

/** Limits of a sandbox; what is absent is not limited (`tmp`: 64 MiB). */
export interface Resources {
  /** Bytes of memory, swap included, tmpfs included. */
  memory?: number;
  /** Processor time per wall time: `0.5` is half a core. */
  cpus?: number;
  /** Processes and threads. */
  pids?: number;
  /** Size of `/tmp` in bytes. */
  tmp?: number;
  /** Bytes a second that each of its output streams may have for long. A program that prints faster waits; nothing is lost. */
  logRate?: number;
}

/**
 * `none`: a loopback interface of its own and nothing else. `host`: the machine's own network, with everything that
 * listens on its loopback. `bridge`: an interface of its own at a bridge of this machine.
 */
export type Network = 'bridge' | 'host' | 'none';

/**
 * A folder of files that only the program can read, and that {@link Sandbox.replaceFile} can replace while it runs: for
 * secrets that do not last.
 */
export interface PrivateFolder {
  /** Where the sandbox shows it, below `/run`: `/run/<name>`. */
  path: string;
  /** Contents by file name, `[A-Za-z0-9][A-Za-z0-9._-]*`. */
  files: Readonly<Record<string, string>>;
}

/** What a runtime needs to know to make a sandbox. */
export interface SandboxSpec {
  /** `[A-Za-z0-9][A-Za-z0-9_-]{0,63}`; also the host name inside. */
  id: string;
  /** Everything that `/nix/store` shows. */
  closure: readonly ClosurePath[];
  /** Absolute path inside the sandbox, at or below one of the closure's store paths. */
  program: string;
  /** Arguments after the program's own name. */
  argv: readonly string[];
  /** The whole environment. `HOME` is `/tmp` when absent: OCI runtimes always set it. */
  environment: Readonly<Record<string, string>>;
  resources: Resources;
  network: Network;
  /** TCP ports of the program that `bridge` shows as ports of this machine, of the same numbers. */
  exposePorts?: readonly number[];
  /** Names by address, for its `/etc/hosts`. */
  hosts?: Readonly<Record<string, readonly string[]>>;
  privateFolder?: PrivateFolder | undefined;
}

/** Whatever is needed to find a sandbox again after this process has ended. JSON, versioned; keep it as it is. */
export interface SandboxRecord {
  version: 1;
  runtime: RuntimeName;
  id: string;
  /** Tells this sandbox from a later one of the same id. */
  instance: string;
  /** ISO 8601 time of `create()`. */
  created: string;
}

/** How a sandbox ended. Neither `code` nor `signal`: not known, as after a crash of the machine. */
export interface Exit {
  /** As a shell shows it: 128 + n when signal n ended the program. */
  code?: number;
  /** Name of the signal that `code` stands for. A program that exits with 143 by itself looks the same as SIGTERM. */
  signal?: string;
  /** The kernel killed processes of the sandbox because its memory limit was reached, and the program failed. */
  outOfMemory: boolean;
  /** What ended it when it was not the program: a virtual machine that was killed, crashed or hung. A part of a sentence. */
  reason?: string;
}

/** Bytes of each stream that were read. Entries hold the position after them; give it to `logs()` to go on there. */
export interface LogPosition {
  stdout: number;
  stderr: number;
}

export interface LogEntry {
  stream: 'stdout' | 'stderr';
  /** Without its newline. Lines over 64 KiB come in pieces of 64 KiB. */
  line: Uint8Array;
  /**
   * Present instead of a line: so many bytes of the stream are gone, since they were the oldest of too many when nobody
   * had read them.
   */
  lost?: number;
  /** When it was read; absent for lines that were there before reading began. */
  time?: Date;
  position: LogPosition;
}

export interface LogOptions {
  signal?: AbortSignal;
  /** Go on until the sandbox has ended and everything is read. @default false */
  follow?: boolean;
}

export interface StopOptions {
  /** Sent to the program first. @default 'SIGTERM' */
  signal?: string;
  /** Milliseconds until SIGKILL. @default 10000 */
  graceMs?: number;
}

/**
 * What the sandbox uses now, the OCI runtime's own waiting process included. A figure that this machine does not keep
 * is absent.
 */
export interface Usage {
  /** Bytes, page cache included. */
  memory?: number;
  /** Highest value of `memory` so far. */
  memoryPeak?: number;
  /** Processor time in microseconds, all processes since the start. */
  cpuMicros?: number;
  /** Processes and threads. */
  pids?: number;
  /** Bytes over the interfaces of its own network, loopback left out; absent with network `host` and `none`. */
  network?: { received: number; sent: number };
  /** Bytes of this machine's memory that its virtual machine takes, the guest's own included; absent where there is none. */
  machineMemory?: number;
}

/** One more command in a running sandbox. */
export interface ExecSpec {
  /** Absolute path inside the sandbox. */
  program: string;
  argv: readonly string[];
  /** On top of the environment of the sandbox' program. */
  environment?: Readonly<Record<string, string>>;
  /** Kills it, and all that it started. */
  signal?: AbortSignal;
}

export interface ExecResult {
  /** As a shell has it. */
  code: number;
  /** What it printed, both streams mixed, cut off after 4 KiB. */
  output: string;
}

/**
 * One isolated place a program runs in, started once.
 *
 * Disposing the object lets go of it and leaves the program running; `stop()` and `remove()` end it.
 */
export interface Sandbox extends AsyncDisposable {
  readonly id: string;
  readonly record: SandboxRecord;
  /**
   * Resolves when the program has been executed. A sandbox whose start failed is removed.
   *
   * @throws SandboxError SANDBOX_PROGRAM_NOT_FOUND, SANDBOX_PROGRAM_NOT_EXECUTABLE, SANDBOX_START_FAILED, SANDBOX_ALREADY_STARTED
   */
  start(options?: { signal?: AbortSignal }): Promise<void>;
  /** Signal, grace, SIGKILL. Resolves when nothing of it is alive; then only files are left. */
  stop(options?: StopOptions): Promise<Exit>;
  /** Rejects with SANDBOX_RELEASED when the object is disposed first. */
  readonly exited: Promise<Exit>;
  /** Lines of both streams, each stream in order. An aborted `signal` makes it throw the signal's reason. */
  logs(from?: LogPosition, options?: LogOptions): AsyncIterable<LogEntry>;
  usage(): Promise<Usage>;
  /** Addresses at which this machine reaches what it listens on; none with network `none`. */
  addresses(): Promise<readonly string[]>;
  /**
   * Runs one more command in it, with the same rights, limits and view as its program; it takes two processes of its
   * limit. When it has ended, what it left behind is killed. An aborted `signal` makes it throw the signal's reason
   * once nothing of the command is alive. The end of the sandbox ends it with 137.
   *
   * @throws SandboxError SANDBOX_SPEC_INVALID; SANDBOX_EXEC_FAILED when it cannot be run; SANDBOX_RELEASED
   */
  exec(spec: ExecSpec): Promise<ExecResult>;
  /**
   * Puts another file in place of one of its private folder, or adds one. Whoever opens the file finds the old or the new
   * one, never a part. False when the sandbox has no such folder.
   */
  replaceFile(name: string, content: string): Promise<boolean>;
  /**
   * Removes what is left of an ended sandbox, logs included. Nothing happens when it is removed already.
   *
   * @throws SandboxError SANDBOX_RUNNING; SANDBOX_RELEASED after disposal: adopt it again to remove it
   */
  remove(): Promise<void>;
}

export type RuntimeName = 'oci' | 'microvm';

/** One thing a runtime needs of the machine. */
export interface Requirement {
  name: string;
  met: boolean;
  /** Nothing can run without it. Others only narrow what can be asked for. */
  essential: boolean;
  detail: string;
  /** What to do when it is not met. */
  hint?: string;
}

/** What one run of a warm sandbox' program is given. */
export interface Invocation {
  stdin: Uint8Array;
  /** On top of the environment of the spec. */
  environment: Readonly<Record<string, string>>;
  /** Ends it: everything in it is killed. */
  signal?: AbortSignal;
  /** Highest number of bytes of `stdout`. */
  maxOutput: number;
  /** Called for each line that it prints on stderr. */
  onStderr: (line: Uint8Array) => void;
}

export interface InvocationResult {
  exit: Exit;
  /** Whole; SANDBOX_OUTPUT_TOO_LARGE is thrown when it is more than `maxOutput`. */
  stdout: Uint8Array;
}

/** A sandbox that is all set up and waits for the one run of its program. It does not outlive this process. */
export interface WarmSandbox extends AsyncDisposable {
  readonly id: string;
  /**
   * Runs the program; resolves when nothing of it is alive. Once only; disposing it stays to be done.
   *
   * @throws SandboxError SANDBOX_ALREADY_STARTED, SANDBOX_OUTPUT_TOO_LARGE, SANDBOX_PROGRAM_NOT_FOUND,
   *   SANDBOX_PROGRAM_NOT_EXECUTABLE, SANDBOX_START_FAILED
   */
  invoke(invocation: Invocation): Promise<InvocationResult>;
  /** Resolves when it has ended: after its run, or before it when somebody killed it. */
  readonly exited: Promise<Exit>;
  usage(): Promise<Usage>;
}

/** Something with our mark on this machine that no live sandbox owns. */
export interface Leftover {
  kind: 'sandbox' | 'cgroup' | 'network' | 'firewall rule' | 'process' | 'image' | 'folder' | 'socket';
  /** What it is called on this machine: a path, an interface, a process id. */
  name: string;
}

export interface CleanOptions {
  /** Whether everything is left where it is. */
  dryRun: boolean;
  /** Whether all sandboxes of the state folder are nobody's, also those that are alive. @default false */
  orphaned?: boolean;
}

/** This machine's side of the network `bridge`. Sandboxes there reach nothing else of it. */
export interface Gateway {
  /** Makes the bridge unless it is there. This machine's address at it; undefined when that is not the runtime's to say. */
  open(): Promise<string | undefined>;
  /** TCP ports of that address that sandboxes may reach, in place of those that were allowed before. Makes the bridge too. */
  allow(ports: readonly number[]): Promise<void>;
  /** Whether the bridge is there: it goes with the last sandbox. */
  exists(): Promise<boolean>;
}

/** One kind of sandbox. Disposing a runtime lets go of its sandboxes and leaves them running, but for warm ones. */
export interface Runtime extends AsyncDisposable {
  readonly name: RuntimeName;
  /** What the machine must have, and whether it has it. */
  check(): Promise<Requirement[]>;
  create(spec: SandboxSpec): Promise<Sandbox>;
  /** The sandbox of a record, whoever started it; undefined when it is gone or was never started. */
  adopt(record: SandboxRecord): Promise<Sandbox | undefined>;
  /** What of ours is on this machine, running or ended. */
  list?(): Promise<SandboxRecord[]>;
  /** A sandbox whose program does not run yet. */
  warm?(spec: SandboxSpec): Promise<WarmSandbox>;
  /** Present where the runtime knows the network `bridge`. */
  readonly gateway?: Gateway;
  /** Finds what carries our mark and belongs to no sandbox that is alive, and removes it unless `dryRun`. */
  clean?(options: CleanOptions): Promise<Leftover[]>;
}
