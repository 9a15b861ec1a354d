/**
 * The state that the daemon has sent so far.
 */

const RUNNING = new Set(["queued", "running"]);
const MOVING = new Set(["queued", "running", "backing-off", "waiting"]);
/** The kinds of transfers that the rows of layers show. */
const WITHIN = new Set(["unpacking", "registration"]);
/** The kinds of jobs whose rows are blobs that are sent. */
const SENDING = new Set(["push", "copy"]);
/** How many ended jobs are remembered. */
const ENDED = 200;

export const isRunning = (job) => RUNNING.has(job.state);
export const isSending = (job) => SENDING.has(job.kind);

export class Model {
  #stamps = new Map();
  #stamp = 0;

  constructor() {
    this.clear();
  }

  /** Forget everything: the daemon sends all of it again. */
  clear() {
    this.jobs = new Map();
    this.layers = new Map();
    this.transfers = new Map();
    this.images = new Map();
    this.#stamps.clear();
  }

  /** A number that changes with a job, its layers or its transfers. */
  stamp(id) {
    return this.#stamps.get(id) ?? 0;
  }

  #touch(ids) {
    this.#stamp += 1;
    for (const id of ids) this.#stamps.set(id, this.#stamp);
  }

  /** Take in one event; returns the job where it has just ended. */
  apply(kind, data) {
    if (kind === "job") return this.#job(data);
    if (kind === "layer") {
      this.#touch([data.job]);
      if (!this.layers.has(data.job)) this.layers.set(data.job, []);
      this.layers.get(data.job)[data.index] = data;
    } else if (kind === "transfer") {
      this.#touch(data.jobs ?? []);
      // One that no job waits for any more has no later event.
      if (MOVING.has(data.state) && data.jobs?.length) this.transfers.set(data.id, data);
      else this.transfers.delete(data.id);
    } else if (kind === "image") {
      if (data.removed) this.images.delete(data.reference);
      else this.images.set(data.reference, data);
    }
    return null;
  }

  #job(job) {
    const before = this.jobs.get(job.id);
    this.#touch([job.id]);
    this.jobs.set(job.id, job);
    if (isRunning(job)) return null;
    // What no row shows is not kept.
    this.layers.delete(job.id);
    if (this.jobs.size > ENDED) this.#forget();
    return before && isRunning(before) ? job : null;
  }

  #forget() {
    const ended = this.ended();
    for (const { id } of ended.slice(ENDED)) {
      this.jobs.delete(id);
      this.#stamps.delete(id);
    }
  }

  /** Jobs that run or wait, the oldest first: in the order that they are served. */
  running() {
    return [...this.jobs.values()].filter(isRunning).sort((a, b) => order(a.created, b.created) || order(a.id, b.id));
  }

  /** Jobs that have ended, the newest first. */
  ended() {
    return [...this.jobs.values()].filter((job) => !isRunning(job)).sort((a, b) => order(b.finished ?? "", a.finished ?? ""));
  }

  /** A job's layers, the bottom one first, as far as they are known. */
  layersOf(job) {
    return (this.layers.get(job.id) ?? []).filter(Boolean);
  }

  /** Transfers over the network: those that move first, then those that wait, oldest first. */
  moving() {
    // Thousands are not sorted ten times a second.
    const groups = new Map([...MOVING].map((state) => [state, []]));
    for (const transfer of this.transfers.values()) if (!WITHIN.has(transfer.kind)) groups.get(transfer.state).push(transfer);
    return ["running", "backing-off", "waiting", "queued"].flatMap((state) => groups.get(state));
  }

  /** The transfers over the network of one job. */
  transfersOf(id) {
    return [...this.transfers.values()].filter((transfer) => !WITHIN.has(transfer.kind) && transfer.jobs?.includes(id));
  }

  /** The daemon is gone: nothing moves. */
  lost() {
    for (const transfer of this.transfers.values()) {
      transfer.rate = 0;
      this.#touch(transfer.jobs ?? []);
    }
  }

  /** Whether there are waits that are counted in seconds. */
  counting() {
    for (const { reason } of this.transfers.values()) if (counts(reason)) return true;
    for (const job of this.jobs.values()) if (counts(job.reason)) return true;
    return false;
  }

  /** A second has passed: there is news of waits that are counted in seconds. */
  tick() {
    for (const { reason, jobs } of this.transfers.values()) if (counts(reason)) this.#touch(jobs ?? []);
    for (const { id, reason } of this.jobs.values()) if (counts(reason)) this.#touch([id]);
  }

  /** Bytes a second that come in, and that go out. */
  rates() {
    const sums = { download: 0, upload: 0 };
    for (const { kind, state, rate } of this.transfers.values()) {
      if (kind in sums && state === "running") sums[kind] += rate || 0;
    }
    return { incoming: sums.download, outgoing: sums.upload };
  }

  /** Images, the newest first. */
  newestImages() {
    return [...this.images.values()].sort((a, b) => order(b.created, a.created));
  }
}

/** Whether the text of a reason has seconds that change. */
const counts = (reason) => Boolean(reason?.until) || reason?.what === "silence";

function order(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}
