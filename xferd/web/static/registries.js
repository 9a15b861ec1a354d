/**
 * Registries: the quota of each account, pauses and failures.
 */

import { bytes, count, joined, moment, rate } from "./format.js";
import { openLimits } from "./forms.js";
import { attribute, byId, fill, hide, optional, Rows, text } from "./rows.js";

/** How many accounts are shown. */
const MOST = 8;
const WORDS = { paused: "paused", "quota-low": "quota low", down: "down" };

export class Registries {
  #bytes = {};

  /**
   * @param clear called with the name of a host that is to be cleared
   * @param steering pauses hosts
   */
  constructor({ clear, steering }) {
    this.rows = new Rows(byId("registries"), "registry-row", (row, value) => show(row, value, this.#bytes, steering), (row) => {
      row.clear.addEventListener("click", () => clear(row.host));
      row.hold.addEventListener("click", () => steering.host(row.host));
      row.limit.addEventListener("click", () => openLimits("host", row.host));
    });
  }

  /** Take in the bytes that came from each host and went there. */
  moved(hosts) {
    this.#bytes = hosts ?? {};
  }

  /** Show the hosts as the API lists them: those with trouble first, then those that were used last. */
  show(hosts) {
    const accounts = hosts.flatMap((host) => (host.accounts.length ? host.accounts : [null]).map((account) => ({ host, account })));
    accounts.sort((a, b) => (state(b).state !== "ok") - (state(a).state !== "ok") || used(b).localeCompare(used(a)));
    this.rows.set(accounts.slice(0, MOST), ({ host, account }) => `${host.host} ${account?.account ?? ""}`);
    text(byId("registries-count"), accounts.length || "");
    optional(byId("registries-more"), accounts.length > MOST ? `and ${accounts.length - MOST} more` : "");
    hide(byId("registries-section"), !accounts.length);
  }
}

/** The account of a host that has trouble, or else that with the fewest requests left. */
export function nearest(host) {
  const left = (account) => account.quota?.remaining ?? 1e9;
  const [account = null] = [...host.accounts].sort((a, b) => (b.state !== "ok") - (a.state !== "ok") || left(a) - left(b));
  return { host, account };
}

/** What keeps an account from its host: its own state, or else the host's. */
function state({ host, account }) {
  return account && account.state !== "ok" ? account : host;
}

function used({ host, account }) {
  return (account ?? host).used;
}

/** Show the state and the quota of an account in a row. */
export function showHealth(row, { host, account }) {
  const found = state({ host, account });
  const quota = account?.quota;
  optional(row.trouble, found.state === "ok" ? "" : WORDS[found.state] ?? found.state);
  optional(row.left, quota ? `${quota.remaining}${quota.limit === null ? "" : ` of ${quota.limit}`} requests left` : "");
  const until = found.until ? `, until ${moment(found.until)}` : "";
  optional(row.why, found.state === "quota-low" ? "documents are requested at intervals" : found.why && found.why + until);
}

function show(row, { host, account }, moved, steering) {
  const found = state({ host, account });
  const quota = account?.quota;
  showHealth(row, { host, account });
  attribute(row.element, "data-state", found.state);
  const held = steering.pauses(host.host);
  text(row.hold, held ? "Resume" : "Pause");
  attribute(row.hold, "aria-label", `${held ? "Resume" : "Pause"} ${host.host}`);
  attribute(row.limit, "aria-label", `Limit ${host.host}`);
  row.host = host.host;
  text(row.name, host.host);
  attribute(row.name, "title", host.host);
  optional(row.account, account && account.account !== "daemon" ? account.account : "");
  attribute(row.account, "title", "the account: a hash of a client's credentials");
  attribute(row.clear, "aria-label", `Clear ${host.host}`);
  hide(row.clear, found.state === "ok");
  const failures = host.failures > 0 && count(host.failures, "failure");
  const { bytes: came = 0, sent = 0 } = moved[host.host] ?? {};
  const traffic = [came && `↓ ${bytes(came)}`, sent && `↑ ${bytes(sent)}`, host.rate > 0 && `${rate(host.rate)} by one transfer`];
  optional(row.facts, joined(failures, ...traffic));
  hide(row.bar, !quota?.limit);
  fill(row.out, quota?.limit ? quota.remaining / quota.limit : 0);
}
