/**
 * The mirror: the state of each upstream, what it sent and did not have to, and the repositories that are kept.
 */

import { bytes, count, joined, moment } from "./format.js";
import { nearest, showHealth } from "./registries.js";
import { attribute, byId, hide, optional, Rows, text } from "./rows.js";

/** How many repositories are shown at first, and how many more by a click. */
const MOST = 8;
const MORE = 200;
/** What is known of a host that was not used yet. */
const UNUSED = { state: "ok", why: "", accounts: [] };

export class Mirror {
  #most = MOST;

  constructor() {
    this.rows = new Rows(byId("mirror"), "mirror-row", show);
    byId("mirror-more").addEventListener("click", () => {
      this.#most += MORE;
      this.show(...this.shown);
    });
  }

  /** Show the upstreams of the registry, with their hosts, and the repositories that were used last, as the API lists them. */
  show(registry, repositories, hosts) {
    this.shown = [registry, repositories, hosts];
    const known = new Map(hosts.map((host) => [host.host, host]));
    const upstreams = registry.upstreams.map((upstream) => ({ name: upstream.host, upstream, host: known.get(upstream.host) ?? UNUSED }));
    const newest = [...repositories].sort((a, b) => (b.used ?? "").localeCompare(a.used ?? ""));
    this.rows.set([...upstreams, ...newest.slice(0, this.#most)], ({ name, upstream, policy }) => `${upstream ? "upstream" : "repository"} ${name} ${policy}`);
    text(byId("mirror-count"), repositories.length || "");
    hide(byId("mirror-more"), newest.length <= this.#most);
    text(byId("mirror-more"), `Show ${Math.min(newest.length - this.#most, MORE)} more`);
    hide(byId("mirror-section"), !registry.listen.length);
  }
}

function show(row, { name, upstream, host, policy, tags, size, used, kept }) {
  text(row.name, name);
  attribute(row.name, "title", name);
  optional(row.saved, upstream && upstream.saved > 0 ? `${bytes(upstream.saved)} saved` : "");
  if (upstream) {
    showHealth(row, nearest(host));
    const stale = upstream.stale > 0 && `${upstream.stale} stale`;
    text(row.facts, joined(`${upstream.hits} from the store`, `${upstream.misses} fetched`, stale));
  } else {
    text(row.facts, joined(policy !== "public" && policy, count(tags, "tag"), bytes(size), used && `used ${moment(used)}`));
  }
  optional(row.kept, upstream ? "" : `kept: ${kept.join("; ")}`);
}
