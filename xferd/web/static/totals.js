/**
 * The figures at the top.
 */

import { bytes, count, rate } from "./format.js";
import { attribute, fill, text } from "./rows.js";

const byId = (id) => document.getElementById(id);
/** Seconds of history in the little chart. */
const HISTORY = 60;
/** Slots up to which each has a mark of its own. */
const PIPS = 24;

const history = [];

/** Note what comes in just now; called once a second. */
export function sample(now) {
  history.push(now);
  if (history.length > HISTORY) history.shift();
  const top = Math.max(...history, 1);
  const step = 120 / (HISTORY - 1);
  const points = history.map((value, i) => {
    const x = 120 - (history.length - 1 - i) * step;
    return `${x.toFixed(1)},${(38 - 34 * (value / top)).toFixed(1)}`;
  });
  const line = `M${points.join("L")}`;
  const start = points[0].split(",")[0];
  byId("spark-line").setAttribute("d", line);
  byId("spark-area").setAttribute("d", `${line}V40H${start}Z`);
}

/** Show the rate of now. */
export function showRate(now, running) {
  text(byId("rate"), rate(now));
  document.title = running ? `${rate(now)} · ${count(running, "job")} · xferd` : "xferd";
}

/** Show what the daemon says of itself. */
export function showStatus(status) {
  text(byId("version"), status.version ?? "");
  showHosts(status);
  showSharing(status);
  showSlots(status.slots?.download);
  showJobs(status.jobs ?? {});
  showDisk(status.disk);
}

function showHosts(status) {
  const hosts = Object.entries(status.hosts ?? {}).sort((a, b) => (b[1].bytes ?? 0) - (a[1].bytes ?? 0));
  const named = hosts.slice(0, 3).map(([host, { bytes: n }]) => `${host} ${bytes(n ?? 0)}`);
  if (hosts.length > 3) named.push(`${hosts.length - 3} more`);
  text(byId("hosts"), named.length ? named.join(" · ") : "nothing fetched yet");
}

function showSharing({ bytes_fetched: fetched = 0, bytes_delivered: delivered = 0 }) {
  const share = delivered > 0 ? Math.min(fetched / delivered, 1) : 0;
  fill(byId("sharing-bar").firstElementChild, share);
  if (delivered === 0) {
    text(byId("sharing"), "–");
    text(byId("sharing-text"), "nothing delivered yet");
    return;
  }
  text(byId("sharing"), `${Math.floor(100 * (1 - share))} % saved`);
  text(byId("sharing-text"), `${bytes(fetched)} fetched for ${bytes(delivered)} delivered`);
}

function showSlots(slots) {
  if (!slots) return;
  text(byId("slots"), `${slots.in_use} of ${slots.limit}`);
  text(byId("queued"), slots.queued ? `${count(slots.queued, "transfer")} waiting` : "no transfer waits");
  const pips = byId("pips");
  const wanted = slots.limit <= PIPS ? slots.limit : 0;
  while (pips.childElementCount > wanted) pips.lastElementChild.remove();
  while (pips.childElementCount < wanted) pips.append(document.createElement("i"));
  [...pips.children].forEach((pip, i) => attribute(pip, "class", i < slots.in_use ? "on" : ""));
}

function showJobs(jobs) {
  const waiting = jobs.queued ? `, ${jobs.queued} queued` : "";
  text(byId("running"), `${jobs.running ?? 0} running${waiting}`);
  const ended = ["done", "failed", "cancelled"].filter((state) => jobs[state]).map((state) => `${jobs[state]} ${state}`);
  text(byId("ended"), ended.join(" · ") || "none ended yet");
}

function showDisk(disk) {
  if (!disk?.total) {
    text(byId("free"), "unknown");
    return;
  }
  text(byId("free"), `${bytes(disk.free)} free`);
  text(byId("disk-text"), `of ${bytes(disk.total)}`);
  attribute(byId("disk-text"), "title", disk.path);
  fill(byId("disk-bar").firstElementChild, 1 - disk.free / disk.total);
  attribute(byId("disk-bar"), "data-full", String(disk.free / disk.total < 0.05));
}
