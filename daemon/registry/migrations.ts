// The registry's schema, one step a version. A step, once released, is never changed.
export const migrations: readonly string[] = [
  `CREATE TABLE vms (
     uuid        TEXT PRIMARY KEY,
     name        TEXT NOT NULL UNIQUE,
     definition  TEXT NOT NULL,      -- JSON, api-schema's VmDefinition
     generation  INTEGER NOT NULL,   -- of the definition
     created     INTEGER NOT NULL,   -- milliseconds since 1970
     changed     INTEGER NOT NULL,
     status      TEXT NOT NULL,      -- JSON, api-schema's VmStatusView
     process     TEXT                -- JSON, registry.ts's ProcessRecord; NULL: none was left
   ) STRICT`,
  // What was on when an older daemon ran it was wished to be on.
  `ALTER TABLE vms ADD COLUMN power TEXT NOT NULL DEFAULT 'stopped';
   UPDATE vms SET power = CASE WHEN json_valid(status) THEN
     CASE status ->> 'state'
       WHEN 'running' THEN 'running' WHEN 'starting' THEN 'running' WHEN 'paused' THEN 'paused'
       ELSE 'stopped' END
     ELSE 'stopped' END;
   ALTER TABLE vms ADD COLUMN supervision TEXT NOT NULL DEFAULT '{}';  -- registry.ts's Supervision
   CREATE TABLE events (
     sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
     kind        TEXT NOT NULL,
     vm          TEXT,               -- UUID
     event       TEXT NOT NULL       -- JSON, api-schema's Event without its sequence
   ) STRICT;
   CREATE TABLE operations (
     id          TEXT PRIMARY KEY,
     running     INTEGER NOT NULL,
     created     INTEGER NOT NULL,
     operation   TEXT NOT NULL,      -- JSON, api-schema's LongOperation
     input       TEXT NOT NULL       -- JSON, what its kind needs to begin again
   ) STRICT;
   CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT`,
  `CREATE TABLE tokens (
     id       TEXT PRIMARY KEY,      -- the public part of the token
     name     TEXT NOT NULL UNIQUE,
     digest   BLOB NOT NULL,         -- SHA-256 of the whole token
     scope    TEXT NOT NULL,         -- read, operate or admin
     created  INTEGER NOT NULL,      -- milliseconds since 1970
     expires  INTEGER                -- NULL: never
   ) STRICT;
   CREATE TABLE answers (            -- of requests with an Idempotency-Key
     client   TEXT NOT NULL,         -- who asked: a token's name, or a user of the socket
     key      TEXT NOT NULL,
     request  BLOB NOT NULL,         -- SHA-256 of what was asked
     status   INTEGER,               -- NULL: still being served, or the daemon died in between
     body     TEXT,                  -- the answer, as it was sent
     created  INTEGER NOT NULL,
     PRIMARY KEY (client, key)
   ) STRICT`,
  `CREATE TABLE networks (
     name        TEXT PRIMARY KEY,
     network     TEXT NOT NULL,      -- JSON, api-schema's StoredNetwork
     generation  INTEGER NOT NULL,
     created     INTEGER NOT NULL,   -- milliseconds since 1970
     changed     INTEGER NOT NULL
   ) STRICT`,
];
