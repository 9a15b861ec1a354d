/**
 * The status page: follow the daemon's events, and show them.
 */

import { ask, headers, jobPath } from "./ask.js";
import { Engines } from "./engines.js";
import { Fleet } from "./fleet.js";
import { title } from "./format.js";
import { showLimits } from "./forms.js";
import { Mirror } from "./mirror.js";
import { Model } from "./model.js";
import { Registries } from "./registries.js";
import { attribute, hide, text } from "./rows.js";
import { follow } from "./stream.js";
import { sample, showRates, showStatus } from "./totals.js";
import { View } from "./view.js";

const byId = (id) => document.getElementById(id);
/** Refreshes of the status from one look at the limits and the registries to the next. */
const LIMITS_EVERY = 5;
/** Running jobs above which the page does not try to be pretty. */
const BUSY = 30;
/** How many times as long as a drawing took the page does something else. */
const SHARE = 8;

const model = new Model();
const view = new View({ cancel, look, again: draw });
const registries = new Registries({ clear });
const mirror = new Mirror();
const engines = new Engines();
const fleet = new Fleet();
let drawing = false;
/** When the page was drawn last, and how long that took, in milliseconds. */
let drawn = 0;
let cost = 0;
let stale = false;
let fresh = 0;
let started = null;
let refreshes = 0;

/** Draw with the next frame; however much happens before, once, and rarely where it is much work. */
function draw() {
  if (drawing) return;
  drawing = true;
  const rest = drawn + SHARE * cost - performance.now();
  if (rest > 16) setTimeout(requestAnimationFrame, rest, show);
  else requestAnimationFrame(show);
}

function show() {
  drawing = false;
  // The whole state of the daemon comes in pieces; half of it is not shown.
  if (performance.now() < fresh) {
    draw();
    return;
  }
  const began = performance.now();
  const running = view.show(model);
  showRates(model.rates(), running);
  // Where much moves, nothing glides: every moving bar is work for the browser.
  attribute(document.body, "data-busy", String(running > BUSY));
  drawn = performance.now();
  cost = drawn - began;
}

/** Drop the state of an earlier connection when the present one delivers. */
function renew() {
  if (!stale) return;
  stale = false;
  fresh = performance.now() + 60;
  model.clear();
  draw();
}

const again = follow("/api/v1/events", headers, {
  opened() {
    link("live", "live");
    hide(byId("ask"), true);
    hide(byId("notice"), true);
    stale = true;
    // A daemon without jobs sends no event.
    setTimeout(renew, 400);
    refresh();
  },
  event(kind, data) {
    renew();
    const ended = model.apply(kind, data);
    if (ended) text(byId("said"), `${title(ended)}: ${ended.error?.message ?? ended.state}`);
    draw();
  },
  lost(why, wait) {
    link("lost", "not connected");
    model.lost();
    draw();
    text(byId("notice"), `The daemon does not answer: ${why}. This page shows the last state that it received; retrying${wait > 1000 ? ` every ${wait / 1000} s` : ""}.`);
    hide(byId("notice"), false);
  },
  denied() {
    link("lost", "locked");
    text(byId("notice"), "That token was not accepted.");
    hide(byId("notice"), !sessionStorage.getItem("token"));
    sessionStorage.removeItem("token");
    hide(byId("ask"), false);
    byId("token").focus();
  },
});

function link(state, words) {
  document.body.dataset.link = state;
  text(byId("link"), words);
}

byId("ask").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  sessionStorage.setItem("token", byId("token").value);
  byId("token").value = "";
  again();
});

async function cancel(id) {
  try {
    await ask("DELETE", jobPath(id));
  } catch (error) {
    said(`The job could not be cancelled: ${error.message}`);
  }
}

/** Have the daemon forget a registry's pauses, quotas and failures. */
async function clear(host) {
  try {
    await ask("DELETE", `/hosts/${encodeURIComponent(host)}`);
    registries.show(await ask("GET", "/hosts"));
    text(byId("said"), `${host} was cleared.`);
  } catch (error) {
    said(`${host} could not be cleared: ${error.message}`);
  }
}

/** What the daemon knows of a job that has ended. */
async function look(id) {
  const [job, attempts] = await Promise.all([ask("GET", jobPath(id)), ask("GET", `${jobPath(id)}/attempts`)]);
  return { layers: job.layers, attempts };
}

/** Request the figures that no event has. */
async function refresh() {
  if (document.hidden || document.body.dataset.link !== "live") return;
  try {
    const status = await ask("GET", "/status");
    showStatus(status);
    if (refreshes++ % LIMITS_EVERY === 0) {
      showLimits(await ask("GET", "/limits"));
      registries.show(await ask("GET", "/hosts"));
      mirror.show(await ask("GET", "/registry"), await ask("GET", "/registry/repositories"));
      engines.show(await ask("GET", "/engines"));
      fleet.show(await ask("GET", "/fleet"));
    }
    if (started !== null && started !== status.started) said("xferd was restarted.");
    started = status.started;
  } catch {
    // The stream of events notices too, and says so.
  }
}

/** Say something in passing. */
function said(words) {
  text(byId("notice"), words);
  hide(byId("notice"), false);
  setTimeout(() => {
    if (document.body.dataset.link === "live") hide(byId("notice"), true);
  }, 6000);
}

setInterval(() => {
  sample(document.body.dataset.link === "live" ? model.rates() : { incoming: 0, outgoing: 0 });
  refresh();
  if (model.tick()) draw();
}, 1000);
document.addEventListener("visibilitychange", refresh);
