import type { DevLogEntry, DevStatus, ServiceName, ServiceStatus } from '@nex-nix/devenv';

/** Lines that are kept to be shown: more than any terminal has rows. */
const KEPT_LINES = 1_000;

export type Page = 'log' | 'help' | 'use';

/** What a key asks of whoever runs the view; the rest changes the view only. */
export type Wish = { readonly type: 'quit' } | { readonly type: 'restart'; readonly service: ServiceName };

/** A key as `node:readline` reports it. */
export interface Key {
  readonly name?: string | undefined;
  readonly sequence?: string | undefined;
  readonly ctrl?: boolean | undefined;
}

/** All that the view shows: what is known of the services, and what the keys have chosen. */
export class ViewState {
  status: DevStatus | undefined;
  page: Page = 'log';
  /** The only service whose lines are shown. */
  followed: ServiceName | undefined;
  /** What became of a key, or of the quitting. */
  notice: string | undefined;
  quitting = false;
  #selected = 0;
  #entries: DevLogEntry[] = [];

  get services(): readonly ServiceStatus[] {
    return this.status?.services ?? [];
  }

  get selected(): ServiceStatus | undefined {
    return this.services[Math.min(this.#selected, this.services.length - 1)];
  }

  add(entry: DevLogEntry): void {
    this.#entries.push(entry);
    // Not one by one: each would move all.
    if (this.#entries.length > 2 * KEPT_LINES) this.#entries = this.#entries.slice(-KEPT_LINES);
  }

  /** The last lines of those that are chosen. */
  lastEntries(count: number): DevLogEntry[] {
    if (count < 1) return [];
    const { followed } = this;
    const chosen = followed === undefined ? this.#entries : this.#entries.filter(({ service }) => service === followed);
    return chosen.slice(-count);
  }

  /** Takes a key; returns what it asks for beyond the view. */
  press({ name, sequence, ctrl = false }: Key): Wish | undefined {
    if (ctrl) return name === 'c' ? { type: 'quit' } : undefined;
    if (sequence !== undefined && /^[1-9]$/.test(sequence)) return this.#select(Number(sequence) - 1);
    switch (sequence === '?' ? '?' : (name ?? '')) {
      case 'up':
      case 'k':
        return this.#select(this.#index() - 1);
      case 'down':
      case 'j':
        return this.#select(this.#index() + 1);
      case 'f':
      case 'return':
      case 'enter':
        this.followed = this.followed === undefined ? this.selected?.name : undefined;
        this.page = 'log';
        return undefined;
      case 'i':
        this.page = this.page === 'use' ? 'log' : 'use';
        return undefined;
      case '?':
        this.page = this.page === 'help' ? 'log' : 'help';
        return undefined;
      case 'escape':
        this.page = 'log';
        this.followed = undefined;
        return undefined;
      case 'r':
        return this.selected === undefined ? undefined : { type: 'restart', service: this.selected.name };
      case 'q':
        return { type: 'quit' };
      default:
        return undefined;
    }
  }

  #index(): number {
    return Math.max(0, Math.min(this.#selected, this.services.length - 1));
  }

  #select(index: number): undefined {
    if (index < 0 || index >= this.services.length) return;
    this.#selected = index;
    // Who follows one wants to see the one that is chosen now.
    if (this.followed !== undefined) this.followed = this.selected?.name;
  }
}
