/**
 * Layers and blobs of jobs as rows.
 */

import { now } from "./ask.js";
import { bytes, joined, part, rate, short, waiting } from "./format.js";
import { isSending } from "./model.js";
import { attribute, fill, grow, optional, text } from "./rows.js";

const IN_PLACE = new Set(["done", "exists", "mounted"]);
/** The states in which a row shows its transfer. */
const WAITS = new Set(["waiting", "downloading", "uploading"]);

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

/** The words for the states of a job's rows. */
export const wordsOf = (job) => (job.kind === "verify" ? CHECKED : isSending(job) ? SENT : STATES);

/** What a job's rows are called. */
export const nounOf = (job) => (job.kind === "verify" ? "part" : isSending(job) || job.kind === "prefetch" ? "blob" : "layer");

/** Show a layer, with its transfer where that is known. */
export function showLayer(row, layer, transfer, states) {
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
  if (waits && transfer?.state === "running" && transfer.reason?.what !== "silence") why = joined(rate(transfer.rate || 0), why);
  text(row.why, why);
  attribute(row.why, "title", why);
}

/** An archive that is arriving, as if it were a layer. */
export function arriving({ received, size }) {
  return { index: "archive", state: "downloading", transfer: "archive", size: size || received, bytes_done: received, unpacked: 0 };
}

/** One part of a job's strip. */
export function segment(row, layer) {
  attribute(row.element, "data-state", layer.state);
  grow(row.element, Math.max(layer.size, 1));
  bars({ got: row.got, out: row.out }, layer);
}

/** How far a row's bytes are where they go, or unpacked, 0 to 1. */
function reached(layer, bytesOfIt) {
  if (IN_PLACE.has(layer.state)) return 1;
  // A layer without a transfer has not been looked up yet.
  if (!layer.size || (layer.state === "waiting" && !layer.transfer)) return 0;
  return bytesOfIt / layer.size;
}

const moved = (layer) => reached(layer, layer.bytes_done);
export const unpacked = (layer) => reached(layer, layer.unpacked);

function bars(row, layer) {
  fill(row.got, moved(layer));
  fill(row.out, unpacked(layer));
}

/** A row's bar in words. */
function spoken(layer, states) {
  if (IN_PLACE.has(layer.state)) return states[layer.state];
  const done = Math.floor(100 * moved(layer));
  return states === SENT ? `sent ${done} %` : `fetched ${done} %, unpacked ${Math.floor(100 * unpacked(layer))} %`;
}

/** The other jobs that wait for a transfer, and its number of attempts. */
export function chips(row, transfer) {
  const sharing = transfer?.jobs?.length ?? 0;
  optional(row.shared, sharing > 1 ? `for ${sharing} jobs` : "");
  optional(row.retry, transfer?.attempt > 1 ? `try ${transfer.attempt}` : "");
}
