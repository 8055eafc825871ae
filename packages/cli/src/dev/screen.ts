import { emitKeypressEvents } from 'node:readline';
import type { ReadStream, WriteStream } from 'node:tty';
import type { FrameSize } from './frame.ts';
import type { Key } from './view-state.ts';

// Sequences of DEC terminals that every present one knows: alternate screen, cursor hidden, no wrapping at the right edge.
const ENTER = '\u001B[?1049h\u001B[?25l\u001B[?7l\u001B[2J';
const LEAVE = '\u001B[?7h\u001B[?25h\u001B[?1049l';
const CLEAR_REST = '\u001B[K';
const CLEAR_ALL = '\u001B[2J';

/** Of a terminal that does not say. */
const DEFAULT_SIZE = { columns: 80, rows: 24 };

export interface ScreenOptions {
  readonly stdin: ReadStream;
  readonly stdout: WriteStream;
  readonly onKey: (key: Key) => void;
  readonly onResize: () => void;
  /** The terminal has gone: no keys will come. */
  readonly onGone: () => void;
}

/**
 * The terminal as a page of its own: what was on it comes back at the end, also when the process crashes or exits; only
 * SIGKILL leaves it as it is (`reset` helps then).
 */
export class Screen implements Disposable {
  readonly #options: ScreenOptions;
  #drawn: readonly string[] = [];
  #open = true;

  constructor(options: ScreenOptions) {
    this.#options = options;
    const { stdin, stdout } = options;
    process.on('exit', this.#leave);
    emitKeypressEvents(stdin);
    stdin.setRawMode(true);
    stdin.on('keypress', this.#pressed).on('end', options.onGone).resume();
    stdout.on('resize', this.#resized);
    stdout.write(ENTER);
  }

  get size(): FrameSize {
    const { columns, rows } = this.#options.stdout;
    return { columns: columns || DEFAULT_SIZE.columns, rows: rows || DEFAULT_SIZE.rows };
  }

  /** Shows these lines from the top; only those that differ from what is there are written. */
  draw(lines: readonly string[]): void {
    if (!this.#open) return;
    const changed = lines.flatMap((line, row) =>
      line === this.#drawn[row] ? [] : [`\u001B[${row + 1};1H${line}${CLEAR_REST}`],
    );
    this.#drawn = lines;
    if (changed.length > 0) this.#options.stdout.write(changed.join(''));
  }

  [Symbol.dispose](): void {
    if (!this.#open) return;
    const { stdin, stdout, onGone } = this.#options;
    stdin.off('keypress', this.#pressed).off('end', onGone).pause();
    stdout.off('resize', this.#resized);
    this.#leave();
    process.off('exit', this.#leave);
  }

  readonly #leave = (): void => {
    if (!this.#open) return;
    this.#open = false;
    const { stdin, stdout } = this.#options;
    stdout.write(LEAVE);
    try {
      stdin.setRawMode(false);
    } catch (error) {
      // A terminal that has gone needs none.
      if ((error as NodeJS.ErrnoException).syscall !== 'setRawMode') throw error;
    }
  };

  readonly #pressed = (_text: string | undefined, key: Key): void => this.#options.onKey(key);

  readonly #resized = (): void => {
    // Terminals move lines about when their width changes.
    this.#drawn = [];
    this.#options.stdout.write(CLEAR_ALL);
    this.#options.onResize();
  };
}
