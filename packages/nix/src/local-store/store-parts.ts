import type { StorePath } from '../formats/store-path.ts';
import type { StoreDatabase } from './store-database.ts';
import type { StoreSession } from './store-session.ts';

/** What a local store is made of, for its larger operations. */
export interface StoreParts {
  /** How to call it in messages. */
  readonly name: string;
  readonly db: StoreDatabase;
  readonly session: StoreSession;
  /** Where the content of a path is on disk. */
  readonly realPath: (path: StorePath) => string;
}
