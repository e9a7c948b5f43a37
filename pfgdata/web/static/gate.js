// At most so many requests under way, those that nobody wants any more aborted, the most wanted first.
// A browser would queue them too, but in the order in which they came: after a jump what is seen would wait for what is not.

/** Lets `limit` tasks run at once, in the order they came: `lane(2)(() => fetch(...), signal)`. */
export function lane(limit) {
  const waiting = [];
  let running = 0;
  const next = () => {
    if (running >= limit || !waiting.length) return;
    const { task, signal, resolve, reject } = waiting.shift();
    running += 1;
    Promise.resolve(signal.aborted ? null : task()).then(resolve, reject).finally(() => { running -= 1; next(); });
  };
  return (task, signal) => new Promise((resolve, reject) => { waiting.push({ task, signal, resolve, reject }); next(); });
}

const ENDING = 25; // ms that an aborted request may still take: the browser ends a picture's a moment after it was let go

/** Runs what is wanted; `limit` at a time. */
export class Gate {
  constructor(limit = 6) {
    this.limit = limit;
    this.running = new Map(); // key -> abort()
    this.ending = 0; // aborted just now
    this.done = new Set(); // finished since it was first wanted: not to be started again
    this.wanted = [];
    this.held = false;
  }

  /** Want just `jobs`, `{key, start}`, in this order: `start(signal)` gives a promise. What runs and is not wanted is aborted. */
  want(jobs) {
    const keys = new Set(jobs.map((job) => job.key));
    for (const [key, abort] of this.running) if (!keys.has(key)) this.#abort(key, abort);
    for (const key of this.done) if (!keys.has(key)) this.done.delete(key);
    this.wanted = jobs;
    this.#fill();
  }

  /** Start nothing for now: whoever drags the scrollbar is not yet there. */
  hold(held) {
    this.held = held;
    if (!held) this.#fill();
  }

  #abort(key, abort) {
    this.running.delete(key);
    this.ending += 1;
    abort();
    setTimeout(() => { this.ending -= 1; this.#fill(); }, ENDING);
  }

  #fill() {
    if (this.held) return;
    for (const job of this.wanted) {
      if (this.running.size + this.ending >= this.limit) return;
      if (!this.running.has(job.key) && !this.done.has(job.key)) this.#start(job);
    }
  }

  #start({ key, start }) {
    const control = new AbortController();
    const abort = () => control.abort();
    this.running.set(key, abort);
    const finish = () => {
      if (this.running.get(key) !== abort) return; // aborted, and perhaps started anew
      this.running.delete(key);
      this.done.add(key);
      this.#fill();
    };
    start(control.signal).then(finish, finish);
  }
}
