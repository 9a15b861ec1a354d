/**
 * Transfers over the network: those that move first.
 */

import { jobAddress } from "./address.js";
import { now } from "./ask.js";
import { bytes, count, part, rate, short, title, waiting } from "./format.js";
import { chips } from "./layers.js";
import { attribute, byId, fill, hide, Rows, text, Window } from "./rows.js";

const WAYS = { download: "↓", upload: "↑" };

/** Show one transfer, with the jobs that need it, but for this one. */
export function showTransfer(row, transfer, model, own) {
  attribute(row.element, "data-state", transfer.state);
  attribute(row.element, "data-sending", String(transfer.kind === "upload"));
  text(row.digest, short(transfer.digest ?? transfer.key));
  attribute(row.digest, "title", transfer.digest ?? transfer.key);
  const streams = transfer.streams > 1 ? ` · ${count(transfer.streams, "stream")}` : "";
  text(row.way, WAYS[transfer.kind] ?? transfer.kind);
  text(row.source, `${transfer.source ?? ""}${streams}`);
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
  const why = waiting(transfer.why ?? "", transfer.reason, now());
  text(row.why, why);
  attribute(row.why, "title", why);
  const [first, ...others] = (transfer.jobs ?? []).filter((id) => id !== own).map((id) => model.jobs.get(id)).filter(Boolean);
  hide(row.for, !first);
  text(row.whose, first ? title(first) : "");
  attribute(row.for, "href", first ? jobAddress(first.id) : "#/");
  attribute(row.shared, "title", [first, ...others].filter(Boolean).map(title).join("\n"));
}

export class Transfers {
  constructor() {
    const rows = new Rows(byId("transfers"), "transfer-row", (row, transfer, position) => {
      attribute(row.element, "aria-posinset", String(position + 1));
      attribute(row.element, "aria-setsize", String(this.number));
      if (row.shown === transfer && row.second === this.second) return;
      // The seconds of a reason change without an event.
      Object.assign(row, { shown: transfer, second: transfer.reason ? this.second : row.second });
      showTransfer(row, transfer, this.model);
    });
    this.window = new Window(rows, (transfer) => transfer.id);
  }

  show(model) {
    this.model = model;
    this.second = Math.floor(now() / 1000);
    const moving = model.moving();
    this.number = moving.length;
    this.window.set(moving);
    text(byId("transfers-count"), moving.length || "");
    hide(byId("transfers-frame"), !moving.length);
    hide(byId("no-transfers"), moving.length > 0);
  }
}
