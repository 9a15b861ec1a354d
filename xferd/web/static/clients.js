/**
 * The clients with jobs, and their shares of slots and bytes.
 */

import { bytes, count, joined, rate } from "./format.js";
import { openLimits } from "./forms.js";
import { attribute, byId, fill, hide, optional, Rows, text } from "./rows.js";

/** How many clients are shown, those that move most first. */
const MOST = 12;
const OVER_NETWORK = new Set(["download", "upload"]);

export class Clients {
  #lately = {};
  #weights = {};

  constructor() {
    this.rows = new Rows(byId("clients"), "client-row", (...args) => this.#show(...args), (row, name) => {
      row.limit.setAttribute("aria-label", `Limit ${name}`);
      row.limit.addEventListener("click", () => openLimits("client", name));
    });
  }

  /** Take in the bytes of the last minute, by client. */
  moved(lately) {
    this.#lately = lately;
  }

  /** Take in the limits of clients. */
  limits(clients) {
    this.#weights = clients ?? {};
  }

  show(model) {
    const found = new Map();
    const of = (name) => {
      if (!found.has(name)) found.set(name, { name, jobs: 0, slots: 0, queued: 0, speed: 0, lately: this.#lately[name] ?? 0 });
      return found.get(name);
    };
    for (const name of Object.keys(this.#lately)) of(name);
    for (const job of model.running()) of(job.client).jobs += 1;
    for (const { kind, state, jobs, rate: speed } of model.transfers.values()) {
      if (!OVER_NETWORK.has(kind)) continue;
      for (const name of new Set(jobs.map((id) => model.jobs.get(id)?.client).filter(Boolean))) {
        const client = of(name);
        if (state === "running") {
          client.slots += 1;
          client.speed += speed || 0;
        } else {
          client.queued += 1;
        }
      }
    }
    const clients = [...found.values()].sort((a, b) => b.lately - a.lately || b.jobs - a.jobs || a.name.localeCompare(b.name));
    this.most = Math.max(...clients.map((client) => client.lately), 1);
    this.rows.set(clients.slice(0, MOST), (client) => client.name);
    text(byId("clients-count"), clients.length || "");
    optional(byId("clients-more"), clients.length > MOST ? `and ${clients.length - MOST} more` : "");
    hide(byId("clients-section"), !clients.length);
  }

  #show(row, { name, jobs, slots, queued, speed, lately }) {
    const { weight, download_rate: down, upload_rate: up } = this.#weights[name] ?? {};
    text(row.name, name);
    attribute(row.name, "title", name);
    optional(row.weight, weight !== undefined && weight !== 1 ? `weight ${weight}` : "");
    text(row.speed, speed ? rate(speed) : "");
    const moving = slots && `${slots} moving`;
    const waiting = queued && `${queued} waiting`;
    text(row.facts, joined(jobs && count(jobs, "job"), moving, waiting, `${bytes(lately)} in the last minute`, down && `at most ${rate(down)} down`, up && `at most ${rate(up)} up`));
    fill(row.out, lately / this.most);
  }
}
