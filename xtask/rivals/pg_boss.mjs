// pg-boss with batches of 1,000, fetched as fast as they come.

import { PgBoss } from "pg-boss";
import { BACKLOG, enqueue, enqueueMany, note, payload, tell } from "./measure.mjs";

const boss = new PgBoss({ connectionString: process.argv[2], max: 20, supervise: false, schedule: false });
boss.on("error", () => {});
await boss.start();
await boss.createQueue("noop");

const many = (jobs) => boss.insert("noop", Array.from({ length: jobs }, () => ({ data: payload })));
await enqueue(8, () => boss.send("noop", payload));
await enqueueMany(many);
await boss.deleteAllJobs("noop");
for (let jobs = 0; jobs < BACKLOG; jobs += 1000) await many(1000);
const began = performance.now();
for (let done = 0; done < BACKLOG;) {
  const jobs = await boss.fetch("noop", { batchSize: 1000 });
  await boss.complete("noop", jobs.map((job) => job.id));
  done += jobs.length;
}
note("drain_history", BACKLOG / ((performance.now() - began) / 1000));
await boss.stop({ graceful: false });
tell("pg-boss");
process.exit(0);
