// What is measured of each queue, in the words of `onceward bench jobs`, and how it is told.

export const payload = {
  order: "0193a6b2-7c41-7b7e-9b37-0d5d3f0f8a11", event: "order.placed", amount: 4200, pad: "xxxx",
};
export const SECONDS = Number(process.env.RIVAL_SECONDS ?? 2);
export const BACKLOG = Number(process.env.RIVAL_BACKLOG ?? 20000);
export const PICKUPS = 100;

const found = [];

export function note(name, perSecond, p50 = null, p99 = null) {
  found.push({ name, per_s: perSecond, p50_ms: p50, p99_ms: p99 });
}

export function tell(queue) {
  console.log(JSON.stringify({ queue, workloads: found }));
}

// So many callers, one job each at a time.
export async function enqueue(callers, one) {
  const began = performance.now(), took = [];
  const caller = async () => {
    while (performance.now() - began < SECONDS * 1000) {
      const at = performance.now();
      await one();
      took.push(performance.now() - at);
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  note(`enqueue_${callers}`, took.length / ((performance.now() - began) / 1000), ...quantiles(took));
}

// One caller, a thousand at a time.
export async function enqueueMany(many) {
  const began = performance.now();
  let jobs = 0;
  while (performance.now() - began < SECONDS * 1000) {
    await many(1000);
    jobs += 1000;
  }
  note("enqueue_b1000", jobs / ((performance.now() - began) / 1000));
}

// From before the enqueue to the start of the handler, one at a time, each after a pause.
export async function pickup(one, started) {
  const took = [];
  for (let number = 0; number < PICKUPS; number++) {
    await new Promise((done) => setTimeout(done, 5 + ((number * 7.919) % 20)));
    const next = started();
    const at = performance.now();
    await one();
    took.push((await next) - at);
  }
  note("pickup_idle", null, ...quantiles(took));
}

function quantiles(took) {
  took.sort((a, b) => a - b);
  return [took[Math.floor(took.length / 2)], took[Math.floor(took.length * 0.99)]];
}
