/**
 * The forms: begin a job or name an image, and change limits.
 */

import { ask, jobPath } from "./ask.js";
import { familiar, joined, rate, title } from "./format.js";
import { tag } from "./images.js";
import { attribute, byId, hide, optional, text } from "./rows.js";

/** Limits in bytes a second; a person says megabytes. */
const RATES = new Set(["download_rate", "upload_rate"]);
const MEGA = 1e6;

/** A limit as its field shows it; a rate in MB/s, or by time of day: "08:00-18:00 20, else 5". */
function written(name, limits) {
  const value = limits[name] ?? (name === "weight" ? 1 : 0);
  if (!RATES.has(name)) return String(value);
  const spans = limits.timetables?.[name];
  return spans ? Object.entries(spans).map(([when, one]) => `${when} ${one / MEGA}`).join(", ") : String(value / MEGA);
}

/** The limit in a field; the daemon refuses other texts. */
function read({ name, value }) {
  const megabytes = (word) => (Number.isNaN(Number(word)) ? word : Math.round(Number(word) * MEGA));
  const whole = value.trim();
  if (whole === "") return null;
  if (!RATES.has(name)) return Number(whole);
  if (!whole.includes(":")) return megabytes(whole);
  return Object.fromEntries(whole.split(/\s*,\s*/).map((span) => span.split(/\s+/)).map(([when, one]) => [when, megabytes(one)]));
}

/** What each kind of request needs besides the image. */
const KINDS = {
  pull: { button: "Pull", platform: "this machine's" },
  push: { button: "Push", target: "its own name", platform: "the one in the store" },
  copy: { button: "Copy", target: "registry.example.com/team/app:1.2", needed: true, platform: "all of them", referrers: true },
  tag: { button: "Tag", target: "a name in the store", needed: true },
};

const form = byId("limits");
const fields = [...form.querySelectorAll("[data-of] input")];
let present = {};
let binding = {};
/** The job whose limits the form shows, if it shows those of one. */
let limited = null;

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

/** Show the limits of the daemon, or whose rates hold transfers now, by direction. */
export function showLimits(limits, held = binding) {
  present = limits ?? present;
  binding = held ?? {};
  const at = (name) => {
    const field = `${name}_rate`;
    const own = present[field];
    const timed = present.timetables?.[field] && `by time of day: ${written(field, present)} MB/s`;
    const holding = binding[name]?.map((whose) => (whose === "global" ? "this" : whose)).join(", ");
    return joined(own && `at most ${rate(own)}`, timed, holding && `limited now by ${holding}`);
  };
  optional(byId("limit-in"), at("download"));
  optional(byId("limit-out"), at("upload"));
  optional(byId("per-host"), present.downloads_per_host ? `${present.downloads_per_host} per host` : "");
}

/** Whose limits the form shows: {of, name}; the name is empty for the whole daemon. */
function scope() {
  const [of, ...name] = form.elements.scope.value.split(" ");
  return { of: of || "all", name: name.join(" ") };
}

/** The limits that the form shows, where there are any. */
function shown() {
  const { of, name } = scope();
  return of === "all" ? present : of === "job" ? limited : present[`${of}s`]?.[name];
}

/** Show the limits of the chosen scope. */
function fillIn() {
  const { of } = scope();
  const limits = shown() ?? {};
  for (const field of fields) {
    hide(field.parentElement, !field.parentElement.dataset.of.split(" ").includes(of));
    field.value = written(field.name, limits);
  }
  hide(byId("limits-remove"), of === "all" || of === "job" || !shown());
  hide(byId("limits-keep"), of === "job");
  optional(byId("limits-error"), "");
}

/** Open the form, for one host, client or job where that is given. */
export async function openLimits(of, name, job) {
  limited = job ?? null;
  await ask("GET", "/limits").then(showLimits, () => {});
  const hosts = new Set([...Object.keys(present.hosts ?? {}), ...[...byId("hosts-known").options].map(({ value }) => value)]);
  const clients = new Set([...Object.keys(present.clients ?? {}), ...[...byId("clients-known").options].map(({ value }) => value)]);
  if (of === "host") hosts.add(name);
  if (of === "client") clients.add(name);
  const groups = [["host", "registry", hosts], ["client", "client", clients]];
  const options = groups.flatMap(([kind, word, names]) => [...names].sort().map((one) => new Option(`${word} ${one}`, `${kind} ${one}`)));
  const one = job ? [new Option(`the ${job.kind} of ${title(job)}`, `job ${name}`)] : [];
  form.elements.scope.replaceChildren(...one, new Option("the whole daemon", ""), ...options);
  form.elements.scope.value = name ? `${of} ${name}` : "";
  fillIn();
  open(true);
}

function open(opened) {
  hide(form, !opened);
  attribute(byId("limits-open"), "aria-expanded", String(opened));
  if (opened) {
    form.scrollIntoView({ block: "nearest" });
    form.elements.scope.focus();
  } else {
    byId("limits-open").focus();
  }
}

/** Set limits of the chosen scope; null removes them. */
async function change(values) {
  const { of, name } = scope();
  const changes = of === "all" ? { ...values } : { [`${of}s`]: { [name]: values } };
  if (form.elements.keep.checked && of !== "job") changes.keep = true;
  const request = of === "job" ? () => ask("PATCH", jobPath(name), values) : () => ask("PATCH", "/limits", changes);
  const limits = await send(form, byId("limits-error"), request);
  if (!limits) return;
  if (of !== "job") showLimits(limits);
  open(false);
  text(byId("said"), "Limits changed.");
}

byId("limits-open").addEventListener("click", () => (form.hidden ? openLimits() : open(false)));
byId("limits-close").addEventListener("click", () => open(false));
byId("limits-remove").addEventListener("click", () => change(null));
form.elements.scope.addEventListener("change", fillIn);
form.addEventListener("keydown", (pressed) => {
  if (pressed.key === "Escape") open(false);
});
form.addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  const { of } = scope();
  const limits = shown() ?? {};
  const changes = {};
  for (const field of fields) {
    if (!field.parentElement.dataset.of.split(" ").includes(of)) continue;
    if (field.value !== written(field.name, limits)) changes[field.name] = read(field);
  }
  change(changes);
});
