/**
 * The forms: begin a job or name an image, and change limits.
 */

import { ask } from "./ask.js";
import { familiar, rate } from "./format.js";
import { tag } from "./images.js";
import { attribute, hide, optional, text } from "./rows.js";

const byId = (id) => document.getElementById(id);
/** Limits in bytes a second; a person says megabytes. */
const RATES = new Set(["download_rate", "upload_rate"]);
const MEGA = 1e6;

/** What each kind of request needs besides the image. */
const KINDS = {
  pull: { button: "Pull", platform: "this machine's" },
  push: { button: "Push", target: "its own name", platform: "the one in the store" },
  copy: { button: "Copy", target: "registry.example.com/team/app:1.2", needed: true, platform: "all of them", referrers: true },
  tag: { button: "Tag", target: "a name in the store", needed: true },
};

const form = byId("limits");
const fields = [...form.querySelectorAll("input")];
let present = {};

/** Run one form's request, and show its error beside it. */
async function send(element, complaint, request) {
  const button = element.querySelector("button:not([type=button])");
  button.disabled = true;
  optional(complaint, "");
  try {
    return await request();
  } catch (error) {
    optional(complaint, error.message);
    return null;
  } finally {
    button.disabled = false;
  }
}

const kindOf = () => byId("pull").elements.kind.value;

/** Show the fields of the chosen kind. */
function choose() {
  const { button, target, needed, platform, referrers } = KINDS[kindOf()];
  text(byId("begin"), button);
  hide(byId("target-field"), !target);
  attribute(byId("target"), "placeholder", target ?? "");
  byId("target").required = Boolean(needed);
  hide(byId("platform-field"), !platform);
  attribute(byId("platform"), "placeholder", platform ?? "");
  hide(byId("referrers-field"), !referrers);
  optional(byId("pull-error"), "");
}

/** Fill in the form for an image of the store, and go there. */
export function begin(kind, image) {
  byId("pull").elements.kind.value = kind;
  choose();
  byId("reference").value = familiar(image.reference);
  byId("target").value = "";
  byId("pull").scrollIntoView({ block: "center" });
  byId("target").focus();
}

byId("pull").addEventListener("change", choose);
byId("pull").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const kind = kindOf();
  const value = (id) => byId(id).value.trim();
  const { target, platform, referrers } = KINDS[kind];
  const asked = { kind, reference: value("reference") };
  if (target && value("target")) asked.target = value("target");
  if (platform && value("platform")) asked.platform = value("platform");
  if (referrers && byId("referrers").checked) asked.referrers = true;
  const request = kind === "tag" ? () => tag(asked.reference, value("target")) : () => ask("POST", "/jobs", asked);
  const made = await send(byId("pull"), byId("pull-error"), request);
  attribute(byId("reference"), "aria-invalid", String(!made));
  if (!made) {
    byId("reference").focus();
    return;
  }
  byId("reference").value = byId("target").value = "";
  text(byId("said"), kind === "tag" ? `${made.reference} is set.` : `${kind} of ${made.reference} begun`);
});
choose();

// ------------------------------------------------------------------- limits

/** Show the limits of the daemon. */
export function showLimits(limits) {
  present = limits;
  optional(byId("limit-in"), limits.download_rate ? `at most ${rate(limits.download_rate)}` : "");
  optional(byId("limit-out"), limits.upload_rate ? `at most ${rate(limits.upload_rate)}` : "");
  optional(byId("per-host"), limits.downloads_per_host ? `${limits.downloads_per_host} per host` : "");
}

function open(opened) {
  hide(form, !opened);
  attribute(byId("limits-open"), "aria-expanded", String(opened));
  optional(byId("limits-error"), "");
  if (!opened) {
    byId("limits-open").focus();
    return;
  }
  for (const field of fields) field.value = RATES.has(field.name) ? present[field.name] / MEGA : present[field.name];
  fields[0].focus();
}

byId("limits-open").addEventListener("click", async () => {
  if (form.hidden) await ask("GET", "/limits").then(showLimits, () => {});
  open(form.hidden);
});
byId("limits-close").addEventListener("click", () => open(false));
form.addEventListener("keydown", (pressed) => {
  if (pressed.key === "Escape") open(false);
});
form.addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const changes = {};
  for (const field of fields) {
    const value = field.value === "" ? null : Number(field.value);
    const wanted = value !== null && RATES.has(field.name) ? Math.round(value * MEGA) : value;
    if (wanted !== present[field.name]) changes[field.name] = wanted;
  }
  const limits = await send(form, byId("limits-error"), () => ask("PATCH", "/limits", changes));
  if (!limits) return;
  showLimits(limits);
  open(false);
  text(byId("said"), "Limits changed.");
});
