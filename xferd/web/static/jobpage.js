/**
 * The page of one job.
 */

import { jobAddress } from "./address.js";
import { ask, jobPath } from "./ask.js";
import { between, bytes, duration, instant, joined, rate, short, stamp, title } from "./format.js";
import { named, outcome, showProgress, troubles } from "./jobs.js";
import { nounOf, segment, showLayer, wordsOf } from "./layers.js";
import { isRunning } from "./model.js";
import { attribute, byId, grow, hide, optional, parts, Rows, text } from "./rows.js";
import { showTransfer } from "./transfers.js";

/** Milliseconds between two requests for the attempts of a job that runs. */
const AGAIN = 3000;
/** Phases during which bytes move, or work is done; the others are waits. */
const PHASES = ["queued", "interrupted", "resolving", "waiting", "moving", "unpacking", "registering", "checking"];

export class JobPage {
  #id = null;
  /** What the API knows of it besides the events: {job, attempts}, or {error}. */
  #found = {};
  #reading = false;
  #read = 0;
  #count = -1;

  /** @param actions {cancel(job), again(), steering} */
  constructor(actions) {
    this.actions = actions;
    const row = (this.row = parts(byId("job-page")));
    row.segments = new Rows(row.strip, "segment", segment);
    this.layers = new Rows(row.layers, "layer-row", (part, layer) => showLayer(part, layer, this.model.transfers.get(layer.transfer), this.states));
    this.attempts = new Rows(row.attempts, "attempt-row", showAttempt);
    this.phases = new Rows(row.phases, "phase", showPhase);
    this.keys = new Rows(row.keys, "phase-key", showKey);
    this.facts = new Rows(row.facts, "fact", (part, { name, value }) => {
      text(part.term, name);
      text(part.value, value);
    });
    this.transfers = new Rows(row["its-transfers"], "transfer-row", (part, transfer) => showTransfer(part, transfer, this.model, this.#id));
    this.shared = new Rows(row["others"], "other-job", (part, job) => {
      text(part.name, `${title(job)} · ${job.client}`);
      attribute(part.name, "href", jobAddress(job.id));
    });
    row.cancel.addEventListener("click", () => actions.cancel(this.job));
    actions.steering.made(row, () => this.job);
  }

  /** Show a job, by its id. */
  show(model, id) {
    this.model = model;
    if (id !== this.#id) {
      this.#id = id;
      this.#found = {};
      this.#count = -1;
      scrollTo(0, 0);
    }
    const live = model.jobs.get(id);
    const job = (this.job = live ?? this.#found.job);
    const running = Boolean(job && isRunning(job));
    this.#look(running);
    const row = this.row;
    optional(row.missing, job ? "" : this.#found.error ?? "one moment");
    hide(row.all, !job);
    text(row.failed, job ? this.#found.error ?? "" : "");
    hide(row.failed, !job || !this.#found.error);
    if (!job) return;
    this.states = wordsOf(job);
    attribute(row.element, "data-state", job.state);
    named(row, job);
    text(row.state, job.paused ? "paused" : job.state);
    optional(row.kind, job.kind);
    hide(row.cancel, !running);
    hide(row.progress, !running);
    if (running) showProgress(row, job, model);
    this.actions.steering.controls(row, job);
    const { code, message } = troubles(job);
    hide(row.reason, !code);
    text(row.code, code ?? "");
    text(row.message, message);
    this.#timing(job);
    this.facts.set(factsOf(job), ({ name }) => name);
    const layers = running ? model.layersOf(job) : this.#found.job?.layers ?? [];
    text(row["layers-title"], `${nounOf(job)}s`);
    text(row["layers-count"], layers.length || "");
    hide(row["layers-section"], !layers.length);
    this.layers.set(layers, (layer) => layer.index);
    this.#transfers(running ? model.transfersOf(id) : [], id);
    const attempts = this.#found.attempts ?? [];
    text(row["attempts-count"], attempts.length || "");
    hide(row.attempts, !attempts.length);
    optional(row.tried, this.#found.attempts && !attempts.length ? "No requests to a registry." : "");
    this.attempts.set(attempts, (one, position) => position);
  }

  #transfers(transfers, id) {
    hide(this.row["transfers-section"], !transfers.length);
    this.transfers.set(transfers, (transfer) => transfer.id);
    const ids = new Set(transfers.flatMap((transfer) => transfer.jobs ?? []));
    ids.delete(id);
    const others = [...ids].map((other) => this.model.jobs.get(other)).filter(Boolean);
    hide(this.row.sharing, !others.length);
    this.shared.set(others, (job) => job.id);
  }

  #timing(job) {
    const spent = job.timing;
    const phases = PHASES.filter((phase) => spent?.phases[phase] >= 0.05).map((phase) => ({ phase, seconds: spent.phases[phase], share: spent.phases[phase] / spent.seconds }));
    hide(this.row["timing-section"], !phases.length);
    optional(this.row.bound, spent?.bound?.text ?? "");
    attribute(this.row.phases, "aria-label", phases.map(({ phase, seconds }) => `${phase} ${duration(seconds)}`).join(", "));
    this.phases.set(phases, ({ phase }) => phase);
    this.keys.set(phases, ({ phase }) => phase);
    const moved = ["received", "sent", "saved"].filter((way) => spent?.[`bytes_${way}`]).map((way) => `${bytes(spent[`bytes_${way}`])} ${way}`);
    optional(this.row.timing, joined(...moved, spent?.rate && `${rate(spent.rate)} on average`));
  }

  /** Read what no event has: once of a job that has ended, and now and then of one that runs. */
  async #look(running) {
    const count = running ? this.model.stamp(this.#id) : -2;
    if (this.#reading || this.#count === count) return;
    const wait = this.#read + AGAIN - performance.now();
    if (running && this.#count !== -1 && wait > 0) {
      this.#reading = true;
      setTimeout(() => {
        this.#reading = false;
        this.actions.again();
      }, wait);
      return;
    }
    this.#reading = true;
    const id = this.#id;
    try {
      const [job, attempts] = await Promise.all([ask("GET", jobPath(id)), ask("GET", `${jobPath(id)}/attempts`)]);
      if (id === this.#id) this.#found = { job, attempts };
    } catch (error) {
      if (id === this.#id) this.#found = { ...this.#found, error: error.message };
    }
    this.#reading = false;
    if (id === this.#id) this.#count = count;
    this.#read = performance.now();
    this.actions.again();
  }
}

/** What is known of a job, as a list of terms. */
function factsOf(job) {
  const took = isRunning(job) ? null : outcome(job).filter(Boolean).join(" · ");
  const facts = [
    ["ID", job.id],
    ["Result", took],
    ["Client", job.client],
    ["Platform", job.platform],
    ["Requested", stamp(job.created)],
    ["Started", job.started && stamp(job.started)],
    ["Ended", job.finished && stamp(job.finished)],
    ["Priority", job.priority ? String(job.priority) : null],
    ["Download limit", job.download_rate ? rate(job.download_rate) : null],
    ["Upload limit", job.upload_rate ? rate(job.upload_rate) : null],
    ["Digest", job.result?.digest],
    ["Retry of", job.retry_of],
    ["After a restart", isRunning(job) && job.restart && (job.restart === "always" ? "continues" : "continues when its client comes back")],
  ];
  return facts.filter(([, value]) => value).map(([name, value]) => ({ name, value }));
}

function showPhase(row, { phase, seconds, share }) {
  attribute(row.element, "data-phase", phase);
  attribute(row.element, "title", `${phase} ${duration(seconds)}`);
  // Parts that together are less than 1 would not fill the bar.
  grow(row.element, Math.max(Math.round(1000 * share), 4));
}

function showKey(row, { phase, seconds, share }) {
  attribute(row.element, "data-phase", phase);
  text(row.phase, phase);
  text(row.seconds, duration(seconds));
  text(row.share, `${Math.round(100 * share)} %`);
}

/** One attempt behind a job. */
function showAttempt(row, one) {
  attribute(row.element, "data-state", one.code ? "failed" : "done");
  text(row.time, instant(one.finished));
  attribute(row.time, "title", one.finished);
  text(row.number, `try ${one.attempt}`);
  text(row.digest, short(one.digest));
  attribute(row.digest, "title", one.digest ?? "");
  text(row.source, `${one.kind} · ${one.source}`);
  const took = duration(between(one.started, one.finished));
  // Documents are small, and come whole or not at all.
  text(row.size, one.kind === "document" ? took : `${bytes(one.bytes_moved ?? one.bytes_done)} in ${took}`);
  text(row.code, one.code ?? "done");
  text(row.message, one.error ?? "");
}
