/**
 * The status page: follow the daemon's events, and show them.
 */

import { title } from "./format.js";
import { Model } from "./model.js";
import { hide, text } from "./rows.js";
import { follow } from "./stream.js";
import { sample, showRates, showStatus } from "./totals.js";
import { View } from "./view.js";

const byId = (id) => document.getElementById(id);
const API = "/api/v1";

const model = new Model();
const view = new View(cancel, draw);
let drawing = false;
let stale = false;
let fresh = 0;
let started = null;

/** Draw with the next frame; however much happens before, once. */
function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    // The whole state of the daemon comes in pieces; half of it is not shown.
    if (performance.now() < fresh) {
      draw();
      return;
    }
    view.show(model);
    showRates(model.rates(), model.running().length);
  });
}

/** Forget what an earlier connection told, when the present one tells. */
function renew() {
  if (!stale) return;
  stale = false;
  fresh = performance.now() + 60;
  model.clear();
  draw();
}

function headers() {
  const token = sessionStorage.getItem("token");
  return token ? { authorization: `Bearer ${token}` } : {};
}

const again = follow(`${API}/events`, headers, {
  opened() {
    link("live", "live");
    hide(byId("ask"), true);
    hide(byId("notice"), true);
    stale = true;
    // A daemon that has nothing to tell says nothing.
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
    text(byId("notice"), `xferd cannot be reached: ${why}. What you see is the last that it told; trying again${wait > 1000 ? ` every ${wait / 1000} s` : ""}.`);
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
  const response = await fetch(`${API}/jobs/${encodeURIComponent(id)}`, { method: "DELETE", headers: headers() });
  if (!response.ok) text(byId("said"), `could not be cancelled: ${response.status}`);
}

/** Ask for the figures that no event tells. */
async function refresh() {
  if (document.hidden || document.body.dataset.link !== "live") return;
  try {
    const response = await fetch(`${API}/status`, { headers: headers(), cache: "no-store" });
    if (!response.ok) return;
    const status = await response.json();
    showStatus(status);
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
}, 1000);
document.addEventListener("visibilitychange", refresh);
