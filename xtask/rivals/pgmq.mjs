// pgmq, from the SQL in its crate: a bare function, without attempts, retries and priorities. Its jobs are read and
// deleted (or archived) by five connections, as many at a time as our worker takes.

import { readFileSync } from "node:fs";
import pg from "pg";
import { BACKLOG, enqueue, enqueueMany, note, payload, pickup, tell } from "./measure.mjs";

const connectionString = process.argv[2];
const pool = new pg.Pool({ connectionString, max: 20 });
pool.on("error", () => {});
await pool.query(readFileSync(new URL("./pgmq.sql", import.meta.url), "utf8"));
await pool.query("SELECT pgmq.create('noop')");

const words = JSON.stringify(payload);
const one = () => pool.query("SELECT pgmq.send('noop', $1::jsonb)", [words]);
const many = (jobs) => pool.query(
  "SELECT count(*) FROM pgmq.send_batch('noop', array_fill($1::jsonb, ARRAY[$2::int]))", [words, jobs]);

async function drain(ends) {
  await pool.query("SELECT pgmq.purge_queue('noop')");
  for (let jobs = 0; jobs < BACKLOG; jobs += 1000) await many(1000);
  const began = performance.now();
  const reader = async () => {
    for (;;) {
      const { rows } = await pool.query("SELECT msg_id FROM pgmq.read('noop', 30, 500)");
      if (rows.length === 0) return;
      await pool.query(`SELECT count(*) FROM pgmq.${ends}('noop', $1::bigint[])`, [rows.map((row) => row.msg_id)]);
    }
  };
  await Promise.all(Array.from({ length: 5 }, reader));
  return BACKLOG / ((performance.now() - began) / 1000);
}

await enqueue(8, one);
await enqueueMany(many);
note("drain_history", await drain("archive"));
note("drain_delete", await drain("delete"));

// Whoever waits polls in the database, as often as it does by default.
let wake = () => {}, over = false;
const waits = (async () => {
  while (!over) {
    const { rows } = await pool.query("SELECT msg_id FROM pgmq.read_with_poll('noop', 30, 1, 1)");
    if (rows.length === 0) continue;
    wake(performance.now());
    await pool.query("SELECT pgmq.delete('noop', $1::bigint)", [rows[0].msg_id]);
  }
})();
await pickup(one, () => new Promise((resolve) => { wake = resolve; }));
over = true;
await waits;
await pool.end();
tell("pgmq");
process.exit(0);
