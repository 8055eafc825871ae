import type { ReadStream, WriteStream } from 'node:tty';
import type { DevControls, DevStatus, ServiceName } from '@nex-nix/devenv';
import { toPublicError } from '@nex-nix/errors';
import { frame } from './frame.ts';
import { Screen } from './screen.ts';
import type { Paint } from './service-style.ts';
import { type Key, ViewState } from './view-state.ts';

/** Between two drawings, in milliseconds: a service that prints much must not keep the terminal busy. */
const REDRAW_MS = 40;

export interface ViewOptions {
  readonly stdin: ReadStream;
  readonly stdout: WriteStream;
  readonly paint: Paint;
  /** How to use what runs, a line each. */
  readonly use: (status: DevStatus) => readonly string[];
  /** The user wants to quit, or the terminal has gone. Called once. */
  readonly onQuit: () => void;
}

/**
 * The terminal view of dev services: draws when something has changed, acts on keys. Dispose of it when the services have
 * ended: until then it shows which are waited for.
 */
export class View implements AsyncDisposable {
  readonly #controls: DevControls;
  readonly #options: ViewOptions;
  readonly #state = new ViewState();
  readonly #screen: Screen;
  readonly #ending = new AbortController();
  readonly #reading: Promise<unknown>;
  #drawing: NodeJS.Timeout | undefined;
  #drawnAt = -Infinity;

  constructor(controls: DevControls, options: ViewOptions) {
    this.#controls = controls;
    this.#options = options;
    const { stdin, stdout } = options;
    this.#screen = new Screen({
      stdin,
      stdout,
      onKey: (key) => this.#press(key),
      onResize: () => this.#draw(),
      onGone: () => this.quit(),
    });
    this.#reading = Promise.all([this.#readStatus(), this.#readLog()]);
    // Looked at when the view ends; until then the terminal shows the rest.
    this.#reading.catch((error: unknown) => this.#say(toPublicError(error).message));
  }

  /** Shows that it is being stopped. */
  quit(): void {
    if (this.#state.quitting) return;
    this.#state.quitting = true;
    this.#changed();
    this.#options.onQuit();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    clearTimeout(this.#drawing);
    this.#drawing = undefined;
    this.#screen[Symbol.dispose]();
    await this.#reading.catch((error: unknown) => {
      if ((error as Error).name !== 'AbortError') throw error;
    });
  }

  async #readStatus(): Promise<void> {
    for await (const status of this.#controls.watch(this.#ending.signal)) {
      this.#state.status = status;
      this.#changed();
    }
  }

  async #readLog(): Promise<void> {
    for await (const entry of this.#controls.logs({ tail: 0, follow: true, signal: this.#ending.signal })) {
      this.#state.add(entry);
      this.#changed();
    }
  }

  #press(key: Key): void {
    this.#state.notice = undefined;
    const wish = this.#state.press(key);
    if (wish?.type === 'quit') this.quit();
    if (wish?.type === 'restart') void this.#restart(wish.service);
    this.#changed();
  }

  async #restart(service: ServiceName): Promise<void> {
    this.#say(`Restarting ${service} …`);
    try {
      await this.#controls.restart(service);
      this.#say(undefined);
    } catch (error) {
      this.#say(toPublicError(error).message);
    }
  }

  #say(notice: string | undefined): void {
    this.#state.notice = notice;
    this.#changed();
  }

  /** Draws at once, or when the last drawing is long enough ago. */
  #changed(): void {
    if (this.#ending.signal.aborted || this.#drawing !== undefined) return;
    const wait = this.#drawnAt + REDRAW_MS - performance.now();
    this.#drawing = setTimeout(() => this.#draw(), Math.max(0, wait));
  }

  #draw(): void {
    clearTimeout(this.#drawing);
    this.#drawing = undefined;
    this.#drawnAt = performance.now();
    const { paint, use } = this.#options;
    const lines = frame(this.#state, this.#screen.size, {
      paint,
      use: ({ status }) => (status === undefined ? [] : use(status)),
    });
    this.#screen.draw(lines);
  }
}
