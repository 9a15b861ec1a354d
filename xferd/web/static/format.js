/**
 * Numbers, times and names as people read them.
 */

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

/** Bytes with three digits, in powers of ten as registries and docker count. */
export function bytes(n) {
  if (!Number.isFinite(n)) return "?";
  let unit = 0;
  while (n >= 999.5 && unit < UNITS.length - 1) {
    n /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || n >= 99.95 ? 0 : n >= 9.995 ? 1 : 2;
  return `${n.toFixed(digits)} ${UNITS[unit]}`;
}

/** "12.3 of 45.6 MB": the unit once where both have the same. */
export function part(done, total) {
  if (!Number.isFinite(total)) return bytes(done);
  const [a, unit] = bytes(done).split(" ");
  const whole = bytes(total);
  return whole.endsWith(` ${unit}`) || done === 0 ? `${done === 0 ? "0" : a} / ${whole}` : `${a} ${unit} / ${whole}`;
}

/** Bytes a second. */
export function rate(n) {
  return `${bytes(n)}/s`;
}

/** A length of time. */
export function duration(seconds) {
  if (seconds < 0.95) return `${Math.max(seconds, 0).toFixed(1)} s`;
  if (seconds < 9.95) return `${seconds.toFixed(1).replace(/\.0$/, "")} s`;
  if (seconds < 99.5) return `${Math.round(seconds)} s`;
  if (seconds < 5970) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

/** Remaining seconds, rounded as the estimate is. */
export function rough(seconds) {
  return seconds < 10 ? Math.max(Math.ceil(seconds), 1) : Math.ceil(seconds / 5) * 5;
}

/** The time of day of a moment, with the day where it is not today, and with seconds where these are wanted. */
export function moment(text, precise = false) {
  const when = new Date(text);
  if (Number.isNaN(when.getTime())) return "";
  const time = precise ? instant(text) : when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return when.toDateString() === new Date().toDateString() ? time : `${when.toLocaleDateString()} ${time}`;
}

/** The time of day of a moment, with seconds. */
export function instant(text) {
  const when = new Date(text);
  return Number.isNaN(when.getTime()) ? "" : when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

/**
 * What a job, a layer or a transfer waits for, and since when.  The seconds in the daemon's text were
 * right when it was sent: silence is counted up, and where the end of the wait is known, it is counted
 * down.
 */
export function waiting(why, reason, now) {
  if (reason?.what === "silence") {
    return why.replace(/\b\d+ s\b/, `${Math.max(Math.floor((now - Date.parse(reason.since)) / 1000), 3)} s`);
  }
  if (!why || !reason) return why;
  const { since, until } = reason;
  const began = since ? ` (since ${moment(since, true)})` : "";
  if (!until) return why + began;
  const left = Math.max(Math.ceil((Date.parse(until) - now) / 1000), 1);
  return why.replace(/\b\d+ s\b/, left < 60 ? `${left} s` : `${left} s, until ${moment(until)}`) + began;
}

/** A moment with its day and seconds. */
export function stamp(text) {
  const when = new Date(text);
  return Number.isNaN(when.getTime()) ? "" : `${when.toLocaleDateString()} ${instant(text)}`;
}

/** Seconds between two moments. */
export function between(from, to) {
  return (Date.parse(to) - Date.parse(from)) / 1000;
}

/** A reference as docker prints it: without docker.io/ and library/. */
export function familiar(reference) {
  return String(reference).replace(/^docker\.io\/(library\/)?/, "");
}

/**
 * Where a job's bytes go: for an image that is pushed under its own name, the
 * registry.
 */
export function destination({ reference, target }) {
  if (!target) return "";
  return target === reference ? target.slice(0, target.indexOf("/")) : familiar(target);
}

/** What a job moves; an import learns the names from its archive. */
export function from(job) {
  return familiar(job.reference || (job.kind === "verify" ? "all content" : "an archive"));
}

/** What a job moves, and where to. */
export function title(job) {
  const to = destination(job);
  return from(job) + (to && ` → ${to}`);
}

/** The first twelve digits of a digest, or a whole tag. */
export function short(digest) {
  return String(digest ?? "").replace(/^sha\d+:(.{12}).*/, "$1");
}

/** "1 layer", "2 layers". */
export function count(n, noun) {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

/** The parts that are not empty. */
export const joined = (...parts) => parts.filter(Boolean).join(" · ");
