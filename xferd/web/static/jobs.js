/**
 * The lists of jobs: those that run, and those that have ended.
 */

import { FILTERS, filter, jobAddress, passes } from "./address.js";
import { askPage, now } from "./ask.js";
import { between, bytes, count, destination, duration, from, joined, moment, part, rate, rough, title, waiting } from "./format.js";
import { arriving, nounOf, segment, showLayer, unpacked, wordsOf } from "./layers.js";
import { isRunning, isSending } from "./model.js";
import { attribute, byId, hide, optional, Rows, text } from "./rows.js";
import { holdWords } from "./steering.js";

/** How many running jobs show their layers unasked, and how many ended ones are listed. */
const OPEN = 6;
const ENDED = 50;
/** How many older jobs are read at a time. */
const OLDER = 100;

/** How the bytes of a job move, and what is left when all have. */
const FETCHING_WORDS = { moved: "fetched", rest: "all fetched, unpacking" };
const UNPACKED_WORDS = { moved: "fetched", rest: "all unpacked, registering" };
const SENDING_WORDS = { moved: "sent", rest: "all blobs are there, the manifest follows" };

/** Show how far a job that has not ended is: the strip, the sizes, the speed and the share. */
export function showProgress(row, job, model) {
  const layers = model.layersOf(job);
  // Until it is known what is in an archive, its own bytes are all there is to show.
  const archive = layers.length ? null : job.archive;
  const total = archive ? archive.size : job.bytes_total;
  const done = archive ? archive.received : job.bytes_done;
  const sending = isSending(job);
  const checking = job.kind === "verify";
  const ready = layers.every((layer) => unpacked(layer) === 1);
  const share = total ? Math.min(Math.floor((100 * done) / total), 100) : 0;
  attribute(row.element, "data-state", job.paused ? "paused" : job.state);
  attribute(row.element, "data-sending", String(sending));
  text(row.part, job.state === "queued" ? "queued" : job.paused ? "paused" : total ? `${share} %` : archive ? "receiving" : job.why ? "waiting" : "resolving");
  attribute(row.strip, "aria-valuenow", share);
  attribute(row.strip, "aria-label", `${title(job)}: ${checking ? "checked" : sending ? "sent" : "fetched"}`);
  row.segments.set(archive ? [arriving(archive)] : layers, (layer) => layer.index);
  const speed = speedOf(layers, model);
  const remaining = total ? total - done : 0;
  if (archive) text(row.sizes, part(done, total ?? NaN));
  else text(row.sizes, total ? `${part(done, total)} · ${job.layers_done} of ${count(job.layers_total, nounOf(job))}` : "");
  if (job.why) text(row.speed, waiting(job.why, job.reason, now()));
  else text(row.speed, archive ? "receiving its archive" : checking ? "checking" : pace(speed, remaining, total, sending ? SENDING_WORDS : ready ? UNPACKED_WORDS : FETCHING_WORDS));
}

/** Bytes a second that move for these layers or blobs, each transfer counted once. */
function speedOf(layers, model) {
  const ids = new Set(layers.map((layer) => layer.transfer));
  let sum = 0;
  for (const id of ids) sum += model.transfers.get(id)?.rate || 0;
  return sum;
}

/** The speed of a job and the time left, or the remaining work when all bytes are there. */
function pace(speed, remaining, total, { moved, rest }) {
  if (speed > 0 && remaining > 0) return `${rate(speed)} · ${moved} in about ${duration(rough(remaining / speed))}`;
  return total && remaining <= 0 ? rest : "";
}

/** What a job moves, and where to. */
export function named(row, job) {
  const to = destination(job);
  text(row.from, from(job));
  optional(row.to, to && ` → ${to}`);
  attribute(row.name, "title", [job.reference, job.target, job.result?.digest].filter(Boolean).join("\n"));
}

/** Why a job failed, its warnings and the damage that it found: {code, message}. */
export function troubles(job) {
  const damage = (job.findings ?? []).map((one) => `${one.kind} ${one.digest}: ${one.path} ${one.problem}: ${one.state}`);
  const warnings = [...(job.warnings ?? []), ...damage].join("; ");
  return { code: job.error?.code ?? (warnings && "warning"), message: [job.error?.message, ...(job.error ? damage : [warnings])].filter(Boolean).join("; ") };
}

/** One line about a job that has ended. */
export function outcome(job) {
  const took = job.finished ? duration(between(job.started ?? job.created, job.finished)) : "";
  if (job.state !== "done") return [job.state, took && `after ${took}`];
  return [bytes(job.bytes_total ?? job.bytes_done), count(job.layers_total, nounOf(job)), `in ${took}`];
}

export class JobLists {
  #opened = new Map();
  /** Jobs older than those of the events, the path of the next page, and which filters they pass. */
  #older = [];
  #next = null;
  #asked = null;
  #visible = new Set();

  /** @param actions {cancel(job), again(), steering}: called to cancel a job, and when there is something to draw without an event */
  constructor(actions) {
    this.actions = actions;
    this.jobs = new Rows(byId("jobs"), "job-row", (...args) => this.#job(...args), (row, id) => this.#made(row, id));
    this.ended = new Rows(byId("ended-jobs"), "ended-row", showEnded);
    // What is not seen is not drawn.
    this.watch = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) this.#visible.add(target);
        else this.#visible.delete(target);
      }
      this.actions.again();
    }, { rootMargin: "200px" });
    byId("ended-more").addEventListener("click", () => this.#more());
    byId("filter").addEventListener("input", () => filter(Object.fromEntries(new FormData(byId("filter")))));
    byId("filter").addEventListener("submit", (submitted) => submitted.preventDefault());
    byId("filter-clear").addEventListener("click", () => {
      filter({});
      byId("filter").elements.text.focus();
    });
  }

  /** Show the jobs that pass the filters. */
  show(model, filters) {
    this.model = model;
    this.#fill(filters);
    const filtered = FILTERS.some((name) => filters[name]);
    const all = model.running();
    const running = filtered ? all.filter((job) => passes(job, filters)) : all;
    this.jobs.set(running, (job) => job.id);
    text(byId("jobs-count"), running.length === all.length ? running.length || "" : `${running.length} of ${all.length}`);
    hide(byId("no-jobs"), running.length > 0 || filtered);
    const ended = [...model.ended(), ...this.#older.filter((job) => !model.jobs.has(job.id))].filter((job) => passes(job, filters));
    const listed = this.#asked === null ? ended.slice(0, ENDED) : ended;
    this.ended.set(listed, (job) => job.id);
    // Of those in the journal, the number is not known.
    text(byId("ended-count"), this.#next === null && this.#asked !== null ? ended.length || "" : ended.length ? `${ended.length}+` : "");
    hide(byId("ended-section"), !ended.length && !filtered);
    hide(byId("ended-jobs"), !ended.length);
    hide(byId("ended-more"), this.#asked !== null && this.#next === null);
    optional(byId("no-matches"), filtered && !ended.length && !running.length ? (this.#asked !== null && this.#next === null ? "No job matches." : "No recent job matches; older ones may.") : "");
    this.#choices(model);
    return all.length;
  }

  /** Show the filters of the address in their form; other ones need other pages. */
  #fill(filters) {
    const key = JSON.stringify(filters);
    if (this.key === key) return;
    this.key = key;
    this.#older = [];
    this.#next = this.#asked = null;
    for (const name of FILTERS) {
      const field = byId("filter").elements[name];
      if (field.value !== (filters[name] ?? "")) field.value = filters[name] ?? "";
    }
    hide(byId("filter-clear"), key === "{}");
  }

  /** The clients and registries that are known, as choices. */
  #choices(model) {
    const clients = new Set();
    const hosts = new Set();
    for (const job of model.jobs.values()) {
      clients.add(job.client);
      for (const name of [job.reference, job.target]) if (name) hosts.add(name.split("/")[0]);
    }
    choices(byId("clients-known"), clients);
    choices(byId("hosts-known"), hosts);
  }

  async #more() {
    const key = this.key;
    // The last page may have come, and not be drawn.
    if (this.#asked === key && this.#next === null) return;
    const button = byId("ended-more");
    button.disabled = true;
    try {
      const query = new URLSearchParams({ limit: OLDER, ...JSON.parse(key) });
      const { value, next } = await askPage(this.#next ?? `/jobs?${query}`);
      if (this.key !== key) return;
      this.#asked = key;
      this.#next = next;
      this.#older.push(...value.filter((job) => !isRunning(job)));
    } catch (error) {
      optional(byId("no-matches"), `Older jobs cannot be read: ${error.message}`);
    } finally {
      button.disabled = false;
    }
    this.actions.again();
  }

  #made(row, id) {
    row.rows = new Rows(row.layers, "layer-row", (part, layer) => showLayer(part, layer, this.model.transfers.get(layer.transfer), row.states));
    row.segments = new Rows(row.strip, "segment", segment);
    row.layers.id = `layers-${id}`;
    row.name.setAttribute("href", jobAddress(id));
    row.fold.setAttribute("aria-controls", row.layers.id);
    row.fold.addEventListener("click", () => {
      this.#opened.set(id, row.element.dataset.open !== "true");
      this.actions.again();
    });
    row.cancel.addEventListener("click", () => this.actions.cancel(row.job));
    row.hold.addEventListener("click", () => this.actions.steering.job(row.job));
    this.watch.observe(row.element);
  }

  #job(row, job, position) {
    row.job = job;
    const opened = this.#opened.get(job.id) ?? (position < OPEN);
    const stamp = `${this.model.stamp(job.id)} ${opened}`;
    if (row.stamp === stamp) return;
    named(row, job);
    // The first ones are seen before the browser says so.
    if (!this.#visible.has(row.element) && (row.stamp || position >= OPEN)) return;
    row.stamp = stamp;
    const layers = this.model.layersOf(job);
    const name = title(job);
    row.states = wordsOf(job);
    attribute(row.element, "data-open", String(opened));
    attribute(row.fold, "aria-expanded", String(opened));
    attribute(row.fold, "aria-label", `${isSending(job) ? "Blobs" : "Layers"} of ${name}`);
    attribute(row.cancel, "aria-label", `Cancel ${name}`);
    const [word, label] = holdWords(job);
    text(row.hold, word);
    attribute(row.hold, "aria-label", label);
    optional(row.kind, job.kind === "pull" ? "" : job.kind);
    text(row.meta, joined(job.platform, job.client));
    showProgress(row, job, this.model);
    hide(row.layers, !opened);
    row.rows.set(opened ? layers : [], (layer) => layer.index);
  }
}

function choices(list, values) {
  const key = [...values].sort().join("\n");
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...[...values].sort().map((value) => Object.assign(document.createElement("option"), { value })));
}

function showEnded(row, job) {
  if (row.job === job) return;
  row.job = job;
  attribute(row.element, "data-state", job.state);
  named(row, job);
  attribute(row.name, "href", jobAddress(job.id));
  text(row.facts, joined(job.kind === "pull" ? "" : job.kind, job.platform, ...outcome(job), job.client));
  text(row.time, moment(job.finished ?? job.created));
  const { code, message } = troubles(job);
  hide(row.reason, !code);
  text(row.code, code ?? "");
  text(row.message, message);
  optional(row.bound, job.timing?.bound?.text ?? "");
}
