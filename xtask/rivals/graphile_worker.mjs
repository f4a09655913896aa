// graphile-worker as its documentation says for speed: a local queue and batched completion.

import pg from "pg";
import { makeWorkerUtils, run, Logger } from "graphile-worker";
import { BACKLOG, enqueue, enqueueMany, note, payload, pickup, tell } from "./measure.mjs";

const connectionString = process.argv[2];
const logger = new Logger(() => () => {});
const pgPool = new pg.Pool({ connectionString, max: 20 });
pgPool.on("error", () => {});
const utils = await makeWorkerUtils({ pgPool, logger });
await utils.migrate();

const one = () => utils.addJob("noop", payload);
const many = (jobs) => utils.withPgClient((client) => client.query(
  "SELECT graphile_worker.add_jobs(ARRAY(SELECT ROW('noop', $1::json, NULL, NULL, NULL, NULL, NULL, NULL)" +
    "::graphile_worker.job_spec FROM generate_series(1, $2::int)))",
  [JSON.stringify(payload), jobs]));
const left = async () => Number((await pgPool.query("SELECT count(*) FROM graphile_worker._private_jobs")).rows[0].count);

await enqueue(8, one);
await enqueueMany(many);
await pgPool.query("DELETE FROM graphile_worker._private_jobs");
for (let jobs = 0; jobs < BACKLOG; jobs += 1000) await many(1000);

const fast = {
  worker: {
    concurrentJobs: 50, localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0,
  },
};
let wake = () => {};
let done = 0, emptied = () => {};
const taskList = { noop: () => { wake(performance.now()); if (++done === BACKLOG) emptied(); } };
const empty = new Promise((resolve) => { emptied = resolve; });
const began = performance.now();
const worker = await run({ preset: fast, pgPool, taskList, logger, noHandleSignals: true });
await empty;
while (await left() > 0) await new Promise((resolve) => setTimeout(resolve, 1));
note("drain_delete", BACKLOG / ((performance.now() - began) / 1000));
await pickup(one, () => new Promise((resolve) => { wake = resolve; }));
await worker.stop();
await utils.release();
await pgPool.end();
tell("graphile-worker");
process.exit(0);
