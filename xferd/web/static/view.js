/**
 * Jobs, layers, transfers and images as rows.
 */

import { now } from "./ask.js";
import {
  between, bytes, count, destination, duration, familiar, from, instant, moment, part, rate, rough, short, title, waiting,
} from "./format.js";
import { isSending } from "./model.js";
import { attribute, fill, grow, hide, optional, Rows, text } from "./rows.js";

const byId = (id) => document.getElementById(id);
const IN_PLACE = new Set(["done", "exists", "mounted"]);
/** The states in which a row shows its transfer. */
const WAITS = new Set(["waiting", "downloading", "uploading"]);
/** How many running jobs show their layers unasked. */
const OPEN = 6;
const MOST = { ended: 50, transfers: 12, images: 30 };

/** What a state is called where nothing more is known: of a layer, and of a blob that is sent. */
const STATES = {
  waiting: "waiting",
  downloading: "",
  unpacking: "unpacking",
  registering: "registering",
  done: "registered",
  exists: "was here",
  failed: "failed",
  cancelled: "cancelled",
};
const CHECKED = { ...STATES, checking: "checking", done: "whole", failed: "damaged" };
const SENT = { ...STATES, uploading: "", done: "sent", exists: "already there", mounted: "mounted" };

/** How the bytes of a job move, and what is left when all have. */
const FETCHING_WORDS = { moved: "fetched", rest: "all fetched, unpacking" };
const UNPACKED_WORDS = { moved: "fetched", rest: "all unpacked, registering" };
const SENDING_WORDS = { moved: "sent", rest: "all blobs are there, the manifest follows" };
const WAYS = { download: "↓", upload: "↑" };

export class View {
  #opened = new Map();
  /** Ended jobs that are open: {layers, attempts} or {error}, or nothing yet. */
  #details = new Map();

  /**
   * @param cancel called with the id of a job that is to be cancelled
   * @param look called with the id of a job that has ended; gives its layers and attempts, later
   * @param again called when something has to be drawn without an event
   */
  constructor({ cancel, look, again }) {
    this.again = again;
    this.look = look;
    this.jobs = new Rows(byId("jobs"), "job-row", (...args) => this.#job(...args), (row, id) => this.#madeJob(row, id, cancel));
    this.ended = new Rows(byId("ended-jobs"), "ended-row", (...args) => this.#endedJob(...args), (row, id) => this.#madeEnded(row, id));
    this.transfers = new Rows(byId("transfers"), "transfer-row", (...args) => this.#transfer(...args));
    this.images = new Rows(byId("images"), "image-row", image);
  }

  /** Update the page; returns how many jobs run. */
  show(model) {
    this.model = model;
    const running = model.running();
    this.jobs.set(running, (job) => job.id);
    text(byId("jobs-count"), running.length || "");
    hide(byId("no-jobs"), running.length > 0);

    const ended = model.ended();
    some(this.ended, "ended", ended, (job) => job.id);
    hide(byId("ended-section"), ended.length === 0);

    const moving = model.moving();
    some(this.transfers, "transfers", moving, (transfer) => transfer.id);
    hide(byId("no-transfers"), moving.length > 0);

    const images = model.newestImages();
    some(this.images, "images", images, (one) => one.reference);
    hide(byId("no-images"), images.length > 0);
    return running.length;
  }

  #madeJob(row, id, cancel) {
    row.rows = new Rows(row.layers, "layer-row", (...args) => this.#layer(...args, row.states));
    row.segments = new Rows(row.strip, "segment", segment);
    row.layers.id = `layers-${id}`;
    row.fold.setAttribute("aria-controls", row.layers.id);
    row.fold.addEventListener("click", () => {
      this.#opened.set(id, row.element.dataset.open !== "true");
      this.again();
    });
    // A second click within three seconds means it.
    row.cancel.addEventListener("click", () => {
      if (row.sure) {
        cancel(id);
        return;
      }
      row.sure = setTimeout(() => { row.sure = 0; text(row.cancel, "Cancel"); }, 3000);
      text(row.cancel, "Really?");
    });
  }

  #job(row, job, position) {
    const opened = this.#opened.get(job.id) ?? (position < OPEN);
    const stamp = `${this.model.stamp(job.id)} ${opened}`;
    if (row.stamp === stamp) return;
    row.stamp = stamp;
    const layers = this.model.layersOf(job);
    // Until it is known what is in an archive, its own bytes are all there is to show.
    const archive = layers.length ? null : job.archive;
    const total = archive ? archive.size : job.bytes_total;
    const done = archive ? archive.received : job.bytes_done;
    const name = title(job);
    const sending = isSending(job);
    const checking = job.kind === "verify";
    const noun = checking ? "part" : sending ? "blob" : "layer";
    row.states = checking ? CHECKED : sending ? SENT : STATES;
    attribute(row.element, "data-state", job.state);
    attribute(row.element, "data-sending", String(sending));
    attribute(row.element, "data-open", String(opened));
    attribute(row.fold, "aria-expanded", String(opened));
    attribute(row.fold, "aria-label", `${sending ? "Blobs" : "Layers"} of ${name}`);
    attribute(row.cancel, "aria-label", `Cancel ${name}`);
    named(row, job);
    optional(row.kind, job.kind === "pull" ? "" : job.kind);
    text(row.meta, [job.platform, job.client].filter(Boolean).join(" · "));

    const ready = layers.every((layer) => unpacked(layer) === 1);
    const share = total ? Math.min(Math.floor((100 * done) / total), 100) : 0;
    text(row.part, job.state === "queued" ? "queued" : total ? `${share} %` : archive ? "receiving" : job.why ? "waiting" : "resolving");
    attribute(row.strip, "aria-valuenow", share);
    attribute(row.strip, "aria-label", `${name}: ${checking ? "checked" : sending ? "sent" : "fetched"}`);
    row.segments.set(archive ? [arriving(archive)] : layers, (layer) => layer.index);

    const speed = this.#speed(layers);
    const remaining = total ? total - done : 0;
    if (archive) text(row.sizes, part(done, total ?? NaN));
    else text(row.sizes, total ? `${part(done, total)} · ${job.layers_done} of ${count(job.layers_total, noun)}` : "");
    if (job.why) text(row.speed, waiting(job.why, job.reason, now()));
    else text(row.speed, archive ? "receiving its archive" : checking ? "checking" : pace(speed, remaining, total, sending ? SENDING_WORDS : ready ? UNPACKED_WORDS : FETCHING_WORDS));

    hide(row.layers, !opened);
    row.rows.set(opened ? layers : [], (layer) => layer.index);
  }

  /** Bytes a second that move for these layers or blobs, each transfer counted once. */
  #speed(layers) {
    const ids = new Set(layers.map((layer) => layer.transfer));
    let sum = 0;
    for (const id of ids) sum += this.model.transfers.get(id)?.rate || 0;
    return sum;
  }

  #layer(row, layer, position, states) {
    const transfer = this.model.transfers.get(layer.transfer);
    const waits = WAITS.has(layer.state);
    const name = `${states === SENT ? "blob" : "layer"} ${layer.index + 1}`;
    const backing = waits && transfer?.state === "backing-off";
    attribute(row.element, "data-state", backing ? "backing-off" : layer.state);
    attribute(row.element, "data-here", String(layer.state === "exists"));
    text(row.index, layer.index + 1);
    text(row.digest, short(layer.digest));
    attribute(row.digest, "title", `${name}: ${layer.digest}`);
    bars(row, layer);
    attribute(row.bar, "aria-label", name);
    attribute(row.bar, "aria-valuenow", Math.floor(100 * moved(layer)));
    attribute(row.bar, "aria-valuetext", spoken(layer, states));
    text(row.size, waits && layer.bytes_done > 0 ? part(layer.bytes_done, layer.size) : bytes(layer.size));
    chips(row, waits ? transfer : undefined);
    let why = waiting(layer.why || (waits && transfer?.why) || states[layer.state] || "", layer.reason ?? transfer?.reason, now());
    if (waits && transfer?.state === "running" && transfer.reason?.what !== "silence") why = [rate(transfer.rate || 0), why].filter(Boolean).join(" · ");
    text(row.why, why);
    attribute(row.why, "title", why);
  }

  #transfer(row, transfer) {
    attribute(row.element, "data-state", transfer.state);
    attribute(row.element, "data-sending", String(transfer.kind === "upload"));
    text(row.digest, short(transfer.digest ?? transfer.key));
    attribute(row.digest, "title", transfer.digest ?? transfer.key);
    const streams = transfer.streams > 1 ? ` · ${count(transfer.streams, "stream")}` : "";
    text(row.source, `${WAYS[transfer.kind] ?? transfer.kind} ${transfer.source ?? ""}${streams}`);
    attribute(row.source, "title", transfer.source ?? "");
    const begun = transfer.bytes_done > 0 || transfer.state === "running";
    text(row.speed, transfer.state === "running" ? rate(transfer.rate || 0) : begun ? transfer.state : bytes(transfer.bytes_total));
    hide(row.moved, !begun);
    const share = transfer.bytes_total ? transfer.bytes_done / transfer.bytes_total : 0;
    fill(row.out, share);
    attribute(row.bar, "aria-label", `${transfer.kind} ${short(transfer.digest)}`);
    attribute(row.bar, "aria-valuenow", Math.floor(100 * share));
    text(row.size, part(transfer.bytes_done, transfer.bytes_total));
    chips(row, transfer);
    const names = (transfer.jobs ?? []).map((id) => this.model.jobs.get(id)).filter(Boolean).map(title);
    attribute(row.shared, "title", names.join("\n"));
    text(row.why, waiting(transfer.why ?? "", transfer.reason, now()));
  }

  #madeEnded(row, id) {
    row.rows = new Rows(row.layers, "layer-row", (...args) => this.#layer(...args, row.states));
    row.tries = new Rows(row.attempts, "attempt-row", attempt);
    row.details.id = `details-${id}`;
    row.fold.setAttribute("aria-controls", row.details.id);
    row.fold.addEventListener("click", async () => {
      if (this.#details.delete(id)) {
        this.again();
        return;
      }
      this.#details.set(id, null);
      this.again();
      const found = await this.look(id).catch((error) => ({ error: error.message }));
      if (this.#details.has(id)) this.#details.set(id, found);
      this.again();
    });
  }

  #endedJob(row, job) {
    const opened = this.#details.has(job.id);
    const details = this.#details.get(job.id);
    if (row.job === job && row.opened === opened && row.found === details) return;
    Object.assign(row, { job, opened, found: details });
    endedJob(row, job);
    attribute(row.element, "data-open", String(opened));
    attribute(row.element, "data-sending", String(isSending(job)));
    attribute(row.fold, "aria-expanded", String(opened));
    attribute(row.fold, "aria-label", `Layers and attempts of ${title(job)}`);
    hide(row.details, !opened);
    row.states = isSending(job) ? SENT : STATES;
    row.rows.set(details?.layers ?? [], (layer) => layer.index);
    row.tries.set(details?.attempts ?? [], (one, position) => position);
    hide(row.layers, !details?.layers?.length);
    hide(row.attempts, !details?.attempts?.length);
    const tried = details?.attempts?.length ? count(details.attempts.length, "attempt") : "No requests to a registry.";
    text(row.tried, details ? details.error ?? tried : "one moment");
  }
}

/** Show the first rows of a list, and say how many there are besides. */
function some(rows, id, values, key) {
  const most = MOST[id];
  rows.set(values.slice(0, most), key);
  text(byId(`${id}-count`), values.length || "");
  hide(rows.parent, values.length === 0);
  optional(byId(`${id}-more`), values.length > most ? `and ${values.length - most} more` : "");
}

/** An archive that is arriving, as if it were a layer. */
function arriving({ received, size }) {
  return { index: "archive", state: "downloading", transfer: "archive", size: size || received, bytes_done: received, unpacked: 0 };
}

/** What a job moves, and where to. */
function named(row, job) {
  const to = destination(job);
  text(row.from, from(job));
  optional(row.to, to && ` → ${to}`);
  attribute(row.name, "title", [job.reference, job.target, job.result?.digest].filter(Boolean).join("\n"));
}

/** How far a row's bytes are where they go, or unpacked, 0 to 1. */
function reached(layer, bytesOfIt) {
  if (IN_PLACE.has(layer.state)) return 1;
  // A layer without a transfer has not been looked up yet.
  if (!layer.size || (layer.state === "waiting" && !layer.transfer)) return 0;
  return bytesOfIt / layer.size;
}

const moved = (layer) => reached(layer, layer.bytes_done);
const unpacked = (layer) => reached(layer, layer.unpacked);

function bars(row, layer) {
  fill(row.got, moved(layer));
  fill(row.out, unpacked(layer));
}

function segment(row, layer) {
  attribute(row.element, "data-state", layer.state);
  grow(row.element, Math.max(layer.size, 1));
  bars({ got: row.got, out: row.out }, layer);
}

/** A row's bar in words. */
function spoken(layer, states) {
  if (IN_PLACE.has(layer.state)) return states[layer.state];
  const done = Math.floor(100 * moved(layer));
  return states === SENT ? `sent ${done} %` : `fetched ${done} %, unpacked ${Math.floor(100 * unpacked(layer))} %`;
}

/** The other jobs that wait for a transfer, and its number of attempts. */
function chips(row, transfer) {
  const sharing = transfer?.jobs?.length ?? 0;
  optional(row.shared, sharing > 1 ? `for ${sharing} jobs` : "");
  optional(row.retry, transfer?.attempt > 1 ? `try ${transfer.attempt}` : "");
}

/** The speed of a job and the time left, or the remaining work when all bytes are there. */
function pace(speed, remaining, total, { moved, rest }) {
  if (speed > 0 && remaining > 0) return `${rate(speed)} · ${moved} in about ${duration(rough(remaining / speed))}`;
  return total && remaining <= 0 ? rest : "";
}

function endedJob(row, job) {
  attribute(row.element, "data-state", job.state);
  named(row, job);
  const took = job.finished ? duration(between(job.started ?? job.created, job.finished)) : "";
  const facts = job.state === "done"
    ? [bytes(job.bytes_total ?? job.bytes_done), count(job.layers_total, isSending(job) || job.kind === "prefetch" ? "blob" : job.kind === "verify" ? "part" : "layer"), `in ${took}`]
    : [job.state, took && `after ${took}`];
  text(row.facts, [job.kind === "pull" ? "" : job.kind, job.platform, ...facts, job.client].filter(Boolean).join(" · "));
  text(row.time, moment(job.finished ?? job.created));
  const damage = (job.findings ?? []).map((one) => `${one.kind} ${one.digest}: ${one.path} ${one.problem}: ${one.state}`);
  const warnings = [...(job.warnings ?? []), ...damage].join("; ");
  hide(row.reason, !job.error && !warnings);
  text(row.code, job.error?.code ?? (warnings && "warning"));
  text(row.message, [job.error?.message, ...(job.error ? damage : [warnings])].filter(Boolean).join("; "));
  optional(row.bound, job.timing?.bound?.text ?? "");
  optional(row.timing, timing(job.timing));
}

/** Where a job's time went, and how many bytes moved. */
function timing(spent) {
  if (!spent) return "";
  const phases = Object.entries(spent.phases).filter(([, seconds]) => seconds >= 0.05).map(([phase, seconds]) => `${phase} ${duration(seconds)}`);
  const moved = ["received", "sent", "saved"].filter((way) => spent[`bytes_${way}`]).map((way) => `${bytes(spent[`bytes_${way}`])} ${way}`);
  return [...phases, ...moved, spent.rate && `${rate(spent.rate)} on average`].filter(Boolean).join(" · ");
}

/** One attempt behind a job. */
function attempt(row, one) {
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

function image(row, one) {
  text(row.name, familiar(one.reference));
  attribute(row.name, "title", `${one.reference}\n${one.resolved}`);
  text(row.size, bytes(one.size));
  text(row.digest, short(one.image_id));
  attribute(row.digest, "title", `image ID ${one.image_id}`);
  text(row["layers-n"], count(one.layers?.length ?? 0, "layer"));
  text(row.time, moment(one.created));
  hide(row.pinned, !one.pinned);
  const users = new Set((one.used_by ?? []).map((each) => each.split(": ")[0]));
  hide(row.users, !users.size);
  text(row.users, users.size ? `in use by ${[...users].join(", ")}` : "");
  attribute(row.users, "title", (one.used_by ?? []).join("\n"));
}
