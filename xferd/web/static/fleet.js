/**
 * The nodes that share downloads with this one, what each fetches for all, and what that saves.
 */

import { bytes, count, joined } from "./format.js";
import { attribute, byId, hide, optional, Rows, text } from "./rows.js";

/** How many nodes are shown, those that fetch something first, and how many downloads of each. */
const MOST = 20;
const MOST_CLAIMS = 3;
/** How many peers that did not deliver are named, those of the newest troubles. */
const MOST_TROUBLES = 3;

export class Fleet {
  constructor() {
    this.rows = new Rows(byId("fleet"), "fleet-row", show);
  }

  /** Show the fleet as the API describes it. */
  show(fleet) {
    const claims = Map.groupBy(fleet.claims, (claim) => claim.node);
    const nodes = fleet.nodes
      .map((node) => ({ node, own: node.name === fleet.name, claims: claims.get(node.name) ?? [] }))
      .sort((a, b) => b.own - a.own || b.claims.length - a.claims.length || a.node.name.localeCompare(b.node.name));
    this.rows.set(nodes.slice(0, MOST), ({ node }) => node.name);
    text(byId("fleet-count"), fleet.nodes.length || "");
    const { upstream, peer, store, sent } = fleet.bytes;
    const saved = fleet.nodes.reduce((sum, node) => sum + node.saved, 0);
    const all = saved > 0 && `${bytes(saved)} from peers on all nodes`;
    const taken = fleet.takeovers > 0 && count(fleet.takeovers, "download") + " taken over";
    const moved = [`${bytes(upstream)} from registries`, `${bytes(peer)} from peers`, `${bytes(store)} from the store`, `${bytes(sent)} to peers`];
    text(byId("fleet-facts"), joined(...moved, all, taken));
    const left = fleet.left_out.length ? `sent wrong bytes, and left out for an hour: ${fleet.left_out.join(", ")}` : "";
    const troubles = fleet.troubles.slice(-MOST_TROUBLES).map(({ node, why }) => `${node}: ${why}`);
    optional(byId("fleet-why"), [fleet.problem, left, ...troubles].filter(Boolean).join("; "));
    attribute(byId("fleet-section"), "data-state", fleet.state);
    const more = fleet.nodes.length - MOST;
    optional(byId("fleet-more"), more > 0 ? `and ${count(more, "more node")}` : "");
    hide(byId("fleet-section"), fleet.state === "off");
  }
}

function show(row, { node, own, claims }) {
  text(row.name, node.name);
  attribute(row.name, "title", node.url);
  optional(row.state, own ? "this node" : "");
  text(row.facts, joined(node.url, node.version, count(node.load, "transfer"), node.saved > 0 && `${bytes(node.saved)} from peers`));
  const fetched = claims.slice(0, MOST_CLAIMS).map((claim) => `${claim.source} ${claim.digest.slice(0, 19)} (${bytes(claim.size)})`);
  const others = claims.length > MOST_CLAIMS ? ` and ${claims.length - MOST_CLAIMS} more` : "";
  optional(row.fetches, claims.length ? `fetches ${fetched.join(", ")}${others}` : "");
}
