/**
 * The forms: pull an image, change limits.
 */

import { ask } from "./ask.js";
import { rate } from "./format.js";
import { attribute, hide, optional, text } from "./rows.js";

const byId = (id) => document.getElementById(id);
/** Limits in bytes a second; a person says megabytes. */
const RATES = new Set(["download_rate", "upload_rate"]);
const MEGA = 1e6;

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

byId("pull").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const reference = byId("reference");
  const platform = byId("platform").value.trim();
  const asked = { kind: "pull", reference: reference.value.trim() };
  if (platform) asked.platform = platform;
  const job = await send(byId("pull"), byId("pull-error"), () => ask("POST", "/jobs", asked));
  attribute(reference, "aria-invalid", String(!job));
  if (!job) {
    reference.focus();
    return;
  }
  reference.value = "";
  text(byId("said"), `pulling ${job.reference}`);
});

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
