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
];
