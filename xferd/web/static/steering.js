/**
 * Steering: pauses of jobs, registries, directions and everything; priorities; the drain; retries.
 */

import { jobAddress } from "./address.js";
import { ask, jobPath } from "./ask.js";
import { count, moment, title } from "./format.js";
import { openLimits } from "./forms.js";
import { isRunning } from "./model.js";
import { question } from "./question.js";
import { attribute, byId, hide, Rows, text } from "./rows.js";

const KEEP = "Also after a restart of the daemon";
const STOPS = "Transfers stop within a second, keep their bytes, and continue at the same byte.";
const PRIORITY = 10;

/** What each pause is called. */
const NAMES = { all: "Everything", downloads: "Downloads", uploads: "Uploads" };
const nameOf = ({ what, host }) => (what === "host" ? host : NAMES[what]);
const pathOf = ({ what, host }) => `/pauses/${what === "host" ? `hosts/${encodeURIComponent(host)}` : what}`;

export class Steering {
  #pauses = [];
  #drain = null;

  /** @param attempt called with an action and a complaint; returns the action's result, or null */
  constructor({ attempt }) {
    this.attempt = attempt;
    this.rows = new Rows(byId("pauses"), "pause-row", showPause, (row) => {
      row.end.addEventListener("click", () => this.#end(row.pause));
    });
    for (const what of ["all", "downloads", "uploads"]) byId(`pause-${what}`).addEventListener("click", () => this.#toggle({ what, host: "" }));
    byId("drain").addEventListener("click", () => this.#toggleDrain());
  }

  /** Show the pauses and the drain of the status. */
  status({ pauses = [], drain }) {
    this.#pauses = pauses;
    this.#drain = drain;
    const drains = drain?.draining ? [{ what: "drain", ...drain }] : [];
    this.rows.set([...drains, ...pauses], ({ what, host }) => `${what} ${host ?? ""}`);
    hide(byId("pauses"), !drains.length && !pauses.length);
    for (const what of ["all", "downloads", "uploads"]) {
      const paused = this.#of({ what, host: "" });
      text(byId(`pause-${what}`), `${paused ? "Resume" : "Pause"}${what === "all" ? " all" : ""}`);
      if (what !== "all") attribute(byId(`pause-${what}`), "aria-label", `${paused ? "Resume" : "Pause"} ${what}`);
    }
    text(byId("drain"), drains.length ? "End the drain" : "Drain");
  }

  /** Whether a person has paused a registry. */
  pauses(host) {
    return Boolean(this.#of({ what: "host", host }));
  }

  /** Pause or resume a registry. */
  host(host) {
    return this.#toggle({ what: "host", host });
  }

  /** Pause or resume a job. */
  job(job) {
    return this.attempt(() => ask("PATCH", jobPath(job.id), { paused: !job.paused }), `The job could not be ${job.paused ? "resumed" : "paused"}`);
  }

  /** The buttons on the page of a job, which belong to the job that it shows. */
  made(row, current) {
    row.hold.addEventListener("click", () => this.job(current()));
    row.limit.addEventListener("click", () => openLimits("job", current().id, current()));
    row.again.addEventListener("click", async () => {
      const made = await this.attempt(() => ask("POST", `${jobPath(current().id)}/retry`), "The job could not be retried");
      if (made) location.hash = jobAddress(made.id);
    });
    for (const [name, step] of [["higher", PRIORITY], ["lower", -PRIORITY]]) {
      row[name].addEventListener("click", () => {
        const { id, priority } = current();
        const wanted = Math.min(Math.max(priority + step, -1000), 1000);
        this.attempt(() => ask("PATCH", jobPath(id), { priority: wanted }), "The priority could not be changed");
      });
    }
  }

  /** Show these buttons as they fit the job. */
  controls(row, job) {
    const running = isRunning(job);
    hide(row.hold, !running);
    hide(row.limit, !running);
    text(row.hold, job.paused ? "Resume" : "Pause");
    hide(row.again, running || job.state === "done");
    hide(row.precedence, !running);
    text(row.priority, `priority ${job.priority ?? 0}`);
  }

  #of({ what, host }) {
    return this.#pauses.find((pause) => pause.what === what && pause.host === host);
  }

  async #toggle(pause) {
    const present = this.#of(pause);
    if (present) return this.#end(present);
    const name = nameOf(pause);
    const answer = await question(`Pause ${pause.what === "host" ? name : name.toLowerCase()}?`, STOPS, "Pause", KEEP);
    return answer && this.attempt(() => ask("PUT", pathOf(pause), { keep: answer.checked }), `${name} could not be paused`);
  }

  #end(pause) {
    if (pause.what === "drain") return this.attempt(() => ask("DELETE", "/drain"), "The drain could not be ended");
    return this.attempt(() => ask("DELETE", pathOf(pause)), `${nameOf(pause)} could not be resumed`);
  }

  async #toggleDrain() {
    if (this.#drain?.draining) return this.#end({ what: "drain" });
    const running = this.#drain?.jobs ? ` ${count(this.#drain.jobs, "job")} will run to completion.` : "";
    const words = `Until the drain ends, the daemon accepts no jobs, and /readyz reports that.${running}`;
    const answer = await question("Drain the daemon?", words, "Drain", KEEP);
    return answer && this.attempt(() => ask("PUT", "/drain", { keep: answer.checked }), "The daemon could not be drained");
  }
}

function showPause(row, pause) {
  row.pause = pause;
  const { what, by, since, keep, jobs, paused } = pause;
  const when = since ? `, since ${moment(since)}` : "";
  if (what === "drain") {
    const left = jobs ? `${count(jobs, "job")} ${jobs === 1 ? "has" : "have"} not ended` : "all jobs have ended";
    text(row.words, `The daemon accepts no jobs: it is drained by ${by}${when}${keep ? ", also after a restart" : ""}; ${left}${paused ? `, ${paused} of them paused` : ""}.`);
    text(row.end, "End the drain");
  } else {
    const name = nameOf(pause);
    text(row.words, `${name} ${what === "downloads" || what === "uploads" ? "are" : "is"} paused by ${by}${when}${keep ? ", also after a restart" : ""}.`);
    text(row.end, "Resume");
    attribute(row.end, "aria-label", `Resume ${name}`);
  }
}

/** The words of a button that pauses a job. */
export function holdWords(job) {
  const word = job.paused ? "Resume" : "Pause";
  return [word, `${word} ${title(job)}`];
}
