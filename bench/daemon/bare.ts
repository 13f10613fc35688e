// What the daemon is measured against: Fastify and SQLite with nothing in between. FOLDER is where the
// database and the socket go; SAMPLE a file with the JSON to serve.
import { readFileSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { join } from "node:path";
import Database from "better-sqlite3";
import Fastify from "fastify";

const [folder = ".", sample = ""] = process.argv.slice(2);
const db = new Database(join(folder, "bare.db"));
db.pragma("journal_mode = WAL");
db.pragma("synchronous = FULL");
db.exec("CREATE TABLE IF NOT EXISTS things (name TEXT PRIMARY KEY, body TEXT NOT NULL)");
const insert = db.prepare("INSERT INTO things (name, body) VALUES (?, ?)");
const update = db.prepare("INSERT OR REPLACE INTO things (name, body) VALUES ('x', ?)");

const app = Fastify();
const answers =
  sample === ""
    ? {}
    : (JSON.parse(readFileSync(sample, "utf8")) as { one?: object; list?: object });
const watchers = new Set<ServerResponse>();

app.get("/", async () => ({}));
app.get("/one", async () => answers.one);
app.get("/list", async () => answers.list);
app.post<{ Body: { name: string } }>("/things", async ({ body }, reply) => {
  insert.run(body.name, JSON.stringify(body));
  return reply.code(201).send(body);
});
/** One durable change, and its event. */
app.post("/poke", async ({ body }) => {
  const text = JSON.stringify(body);
  update.run(text);
  for (const watcher of watchers) watcher.write(`id: 1\ndata: ${text}\n\n`);
  return body;
});
app.get("/events", (_request, reply) => {
  reply.hijack();
  reply.raw.writeHead(200, { "content-type": "text/event-stream" });
  reply.raw.write(":\n\n");
  watchers.add(reply.raw);
});
await app.listen({ path: join(folder, "bare.sock") });
