/**
 * The figures at the top.
 */

import { bytes, count, rate, title } from "./format.js";
import { attribute, byId, fill, hide, text } from "./rows.js";

/** How many registries are named. */
const HOSTS = 3;
/** Slots up to which each has a mark of its own. */
const PIPS = 24;

/** Show the rates of now, and in the title the number of running jobs, or the job whose page this is. */
export function showRates({ incoming, outgoing }, running, job) {
  text(byId("rate-in"), rate(incoming));
  text(byId("rate-out"), rate(outgoing));
  const rates = [(incoming || !outgoing) && `↓ ${rate(incoming)}`, outgoing && `↑ ${rate(outgoing)}`];
  if (job) document.title = `${title(job)} · xferd`;
  else document.title = running ? `${rates.filter(Boolean).join(" ")} · ${count(running, "job")} · xferd` : "xferd";
}

/** Show what the daemon says of itself. */
export function showStatus(status) {
  text(byId("version"), status.version ?? "");
  showHosts(status);
  showSharing(status);
  showSlots("download", status.slots?.download);
  showSlots("upload", status.slots?.upload);
  showJobs(status.jobs ?? {});
  showDisk(status.disk);
  showSandbox(status.sandbox);
}

function showSandbox(sandbox) {
  const missing = Object.entries(sandbox?.missing ?? {});
  text(byId("sandbox"), missing.length ? `sandbox of layers without ${missing.map(([name]) => name).join(", ")}` : "");
  attribute(byId("sandbox"), "title", missing.map(([name, why]) => `${name}: ${why}`).join("\n"));
  hide(byId("sandbox"), !missing.length);
}

function showHosts(status) {
  text(byId("fetched"), `${bytes(status.bytes_fetched ?? 0)} fetched`);
  text(byId("sent"), `${bytes(status.bytes_sent ?? 0)} sent`);
  const hosts = Object.entries(status.hosts ?? {})
    .map(([host, { bytes: fetched = 0, sent = 0 }]) => ({ host, fetched, sent }))
    .sort((a, b) => b.fetched + b.sent - a.fetched - a.sent);
  const named = hosts.slice(0, HOSTS).map(({ host, fetched, sent }) =>
    [host, fetched && arrow("↓", fetched), sent && arrow("↑", sent)].filter(Boolean).join(" "));
  if (hosts.length > HOSTS) named.push(`${hosts.length - HOSTS} more`);
  text(byId("hosts"), named.length ? named.join(" · ") : "nothing moved yet");
}

/** So many bytes in or out, never parted at the end of a line. */
function arrow(way, n) {
  return `${way} ${bytes(n)}`.replaceAll(" ", "\u00a0");
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

function showSlots(kind, slots) {
  if (!slots) return;
  text(byId(`${kind}-slots`), `${slots.in_use} of ${slots.limit}`);
  text(byId(`${kind}-queued`), `${slots.queued} waiting`);
  const pips = byId(`${kind}-pips`);
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
  text(byId("disk-full"), disk?.why ?? "");
  hide(byId("disk-full"), !disk?.why);
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
