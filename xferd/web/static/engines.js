/**
 * Container engines that run images from the store, and the images that each uses.
 */

import { bytes, count, familiar, joined } from "./format.js";
import { attribute, byId, hide, optional, Rows, text } from "./rows.js";

/** How many images of each engine are shown. */
const MOST = 8;

export class Engines {
  constructor() {
    this.rows = new Rows(byId("engines"), "engine-row", show);
  }

  /** Show the engines as the API lists them, each with the images that most containers use. */
  show(engines) {
    const rows = engines.flatMap((engine) => {
      const images = [...engine.images].sort((a, b) => b.containers - a.containers || a.image.localeCompare(b.image));
      return [{ engine }, ...images.slice(0, MOST).map((image) => ({ engine, image }))];
    });
    this.rows.set(rows, ({ engine, image }, position) => `${engine.kind} ${engine.name} ${image ? `${position} ${image.image} ${image.by}` : ""}`);
    text(byId("engines-count"), engines.length || "");
    const more = engines.reduce((sum, engine) => sum + Math.max(engine.images.length - MOST, 0), 0);
    optional(byId("engines-more"), more ? `and ${count(more, "more image")}` : "");
    hide(byId("engines-section"), !engines.length);
  }
}

function show(row, { engine, image }) {
  const name = image ? familiar(image.image) || "an image without a name" : [engine.kind, engine.name].filter(Boolean).join(" ");
  text(row.name, name);
  attribute(row.name, "title", image ? image.image : engine.path);
  optional(row.state, image || engine.state === "serving" ? "" : engine.state);
  attribute(row.element, "data-level", image ? "image" : "engine");
  if (image) {
    const containers = image.containers > 0 && count(image.containers, "container");
    optional(row.facts, joined(count(image.layers, "layer"), containers, image.by));
  } else {
    const snapshots = engine.snapshots > 0 && count(engine.snapshots, "snapshot");
    const facts = joined(count(engine.layers, "layer"), bytes(engine.size), snapshots);
    optional(row.facts, engine.state === "serving" ? facts : "");
  }
  optional(row.why, image ? "" : engine.problem ?? leftOut(engine.left_out ?? []));
}

/** How many images of the store an engine does not see, with the reason for the first. */
function leftOut(images) {
  if (!images.length) return "";
  const [{ image, reason }] = images;
  const others = images.length > 1 ? ` and ${count(images.length - 1, "other image")}` : "";
  return `without ${familiar(image)}${others}: ${reason}`;
}
