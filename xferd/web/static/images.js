/**
 * The images of the store.
 */

import { ask } from "./ask.js";
import { bytes, count, familiar, moment, short } from "./format.js";
import { attribute, byId, hide, optional, Rows, text } from "./rows.js";

/** How many images are listed at first. */
const MOST = 30;

const path = (reference) => `/images/${reference.split("/").map(encodeURIComponent).join("/")}`;

export class Images {
  /** Images that are open, with what the API knows of them besides the events. */
  #open = new Map();
  #most = MOST;

  /** @param actions {begin(kind, image), remove(image), pin(image), again()} */
  constructor(actions) {
    this.actions = actions;
    this.rows = new Rows(byId("images"), "image-row", (...args) => this.#show(...args), (row, name) => this.#made(row, name));
    byId("images-more").addEventListener("click", () => {
      this.#most += 200;
      actions.again();
    });
  }

  show(model) {
    const images = model.newestImages();
    this.rows.set(images.slice(0, this.#most), (one) => one.reference);
    text(byId("images-count"), images.length || "");
    hide(byId("images"), !images.length);
    hide(byId("images-more"), images.length <= this.#most);
    text(byId("images-more"), `Show ${Math.min(images.length - this.#most, 200)} more`);
    hide(byId("no-images"), images.length > 0);
  }

  #made(row, name) {
    row.details.id = `image-${name}`;
    row.fold.setAttribute("aria-controls", row.details.id);
    row.fold.setAttribute("aria-label", `Details of ${familiar(name)}`);
    row.fold.addEventListener("click", async () => {
      if (!this.#open.delete(name)) {
        this.#open.set(name, {});
        this.actions.again();
        const found = await ask("GET", path(name)).catch((error) => ({ error: error.message }));
        if (this.#open.has(name)) this.#open.set(name, found);
      }
      this.actions.again();
    });
    for (const kind of ["push", "copy", "tag"]) {
      row[kind].setAttribute("aria-label", `${kind} ${familiar(name)}`);
      row[kind].addEventListener("click", () => this.actions.begin(kind, row.image));
    }
    row.pin.addEventListener("click", () => this.actions.pin(row.image));
    row.remove.setAttribute("aria-label", `Remove ${familiar(name)}`);
    row.remove.addEventListener("click", () => this.actions.remove(row.image));
  }

  #show(row, one) {
    const found = this.#open.get(one.reference);
    if (row.image === one && row.found === found) return;
    Object.assign(row, { image: one, found });
    attribute(row.element, "data-open", String(Boolean(found)));
    attribute(row.fold, "aria-expanded", String(Boolean(found)));
    text(row.name, familiar(one.reference));
    attribute(row.name, "title", one.reference);
    text(row.size, bytes(one.size));
    text(row.facts, `${short(one.image_id)} · ${count(one.layers?.length ?? 0, "layer")}`);
    hide(row.pinned, !one.pinned);
    optional(row.users, one.used_by?.length ? "in use" : "");
    attribute(row.users, "title", (one.used_by ?? []).join("\n"));
    text(row.time, moment(one.pulled ?? one.created));
    attribute(row.time, "title", `${one.pulled ? `pulled ${one.pulled}, ` : ""}named ${one.created}`);
    hide(row.details, !found);
    text(row.pin, one.pinned ? "Unpin" : "Pin");
    attribute(row.pin, "aria-label", `${one.pinned ? "Unpin" : "Pin"} ${familiar(one.reference)}`);
    if (!found) return;
    const { config, platform } = found;
    const command = [...(config?.config?.Entrypoint ?? []), ...(config?.config?.Cmd ?? [])].join(" ");
    optional(row.platform, platform ?? "");
    text(row.id, `image ${short(one.image_id)} · manifest ${short(one.digest)}`);
    attribute(row.id, "title", `${one.image_id}\n${one.digest}\n${one.resolved}`);
    optional(row.source, one.source ? `from ${familiar(one.source)}` : "");
    optional(row.built, config?.created ? `built ${moment(config.created)}` : "");
    optional(row.command, command && `runs ${command}`);
    optional(row.used, one.used_by?.length ? `in use by ${one.used_by.join(", ")}` : "");
    optional(row.wrong, found.error ?? "");
  }
}

/** Pin an image, or unpin it. */
export const pin = (image) => ask("POST", `${path(image.reference)}/pin`, { pinned: !image.pinned });

/** Give an image another name. */
export const tag = (reference, name) => ask("POST", `${path(reference)}/tags`, { reference: name });

/** Remove an image's name. */
export const remove = (image) => ask("DELETE", path(image.reference));

/** What the removal of an image would free, in words. */
export async function wouldFree(image) {
  const [alone, without] = await Promise.all([[], [image.reference]].map((names) => ask("POST", "/gc", { dry_run: true, ...(names.length && { without: names }) })));
  const freed = Math.max(without.freed.bytes - alone.freed.bytes, 0);
  const users = image.used_by?.length ? ` It is in use by ${image.used_by.join(", ")}, which keeps its layers.` : "";
  return `The name is removed. ${freed ? `${bytes(freed)} that nothing else needs are freed.` : "Its content stays for now: something else needs it, or it was used a moment ago."}${users}`;
}
