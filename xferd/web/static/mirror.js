/**
 * The mirror: what each upstream had to send and did not, and the repositories that are kept.
 */

import { bytes, count, moment } from "./format.js";
import { attribute, hide, optional, Rows, text } from "./rows.js";

const byId = (id) => document.getElementById(id);
/** How many repositories are shown. */
const MOST = 8;

export class Mirror {
  constructor() {
    this.rows = new Rows(byId("mirror"), "mirror-row", show);
  }

  /** Show the upstreams of the registry, and the repositories that were used last, as the API lists them. */
  show(registry, repositories) {
    const upstreams = registry.upstreams.map((upstream) => ({ name: upstream.host, upstream }));
    const newest = [...repositories].sort((a, b) => (b.used ?? "").localeCompare(a.used ?? ""));
    this.rows.set([...upstreams, ...newest.slice(0, MOST)], ({ name, upstream, policy }) => `${upstream ? "upstream" : "repository"} ${name} ${policy}`);
    text(byId("mirror-count"), repositories.length || "");
    optional(byId("mirror-more"), newest.length > MOST ? `and ${newest.length - MOST} more` : "");
    hide(byId("mirror-section"), !registry.listen.length);
  }
}

function show(row, { name, upstream, policy, tags, size, used, kept }) {
  text(row.name, name);
  attribute(row.name, "title", name);
  optional(row.saved, upstream && upstream.saved > 0 ? `${bytes(upstream.saved)} saved` : "");
  if (upstream) {
    const stale = upstream.stale > 0 && `${upstream.stale} stale`;
    text(row.facts, [`${upstream.hits} from the store`, `${upstream.misses} fetched`, stale].filter(Boolean).join(" · "));
  } else {
    text(row.facts, [policy !== "public" && policy, count(tags, "tag"), bytes(size), used && `used ${moment(used)}`].filter(Boolean).join(" · "));
  }
  optional(row.kept, upstream ? "" : `kept: ${kept.join("; ")}`);
}
