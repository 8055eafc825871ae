import type { DatabaseSync } from 'node:sqlite';

/** Each step makes the tables of the next version out of those of the one before; the first begins with nothing. */
const STEPS: readonly string[] = [
  `CREATE TABLE paths (
    path TEXT PRIMARY KEY,
    nar_hash TEXT NOT NULL,
    nar_size INTEGER NOT NULL,
    deriver TEXT,
    signatures TEXT NOT NULL,
    ca TEXT
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE refs (
    referrer TEXT NOT NULL REFERENCES paths (path) ON DELETE CASCADE,
    reference TEXT NOT NULL REFERENCES paths (path) ON DELETE CASCADE,
    PRIMARY KEY (referrer, reference)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX refs_by_reference ON refs (reference);`,

  // last_used: ms since 1970. unsynced: the mark of content that may not be on the disk yet, see durability.ts; until now everything was.
  // Pins and holds may name paths that are not valid: they protect them from the moment they are.
  // Content of some kinds of addresses was not compared with them until now: such an address must prove nothing.
  `ALTER TABLE paths ADD COLUMN last_used INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE paths ADD COLUMN unsynced TEXT;
  UPDATE paths SET last_used = unixepoch() * 1000;
  UPDATE paths SET ca = NULL WHERE ca LIKE 'fixed:r:%' AND (ca NOT LIKE 'fixed:r:sha256:%'
    OR EXISTS (SELECT 1 FROM refs WHERE referrer = path AND reference = path));
  CREATE INDEX paths_unsynced ON paths (unsynced) WHERE unsynced IS NOT NULL;
  CREATE TABLE pins (name TEXT NOT NULL, path TEXT NOT NULL, PRIMARY KEY (name, path)) STRICT, WITHOUT ROWID;
  CREATE TABLE holds (session TEXT NOT NULL, path TEXT NOT NULL, PRIMARY KEY (session, path)) STRICT, WITHOUT ROWID;`,
];

/** The version of the tables that this program makes and knows. */
export const SCHEMA_VERSION = STEPS.length;

/** Brings the tables of `db`, inside a transaction, to {@link SCHEMA_VERSION}. Later versions stay as they are. @returns the version then. */
export function migrate(db: DatabaseSync): number {
  const version = Number(db.prepare('PRAGMA user_version').get()?.['user_version']);
  if (version >= SCHEMA_VERSION) return version;
  for (const step of STEPS.slice(version)) db.exec(step);
  db.exec(`PRAGMA user_version = ${SCHEMA_VERSION}`);
  return SCHEMA_VERSION;
}
