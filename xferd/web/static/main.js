/**
 * The status page: follow the daemon's events, and show them.
 */

import { address } from "./address.js";
import { ask, headers, jobPath, now } from "./ask.js";
import { showHistory } from "./chart.js";
import { Clients } from "./clients.js";
import { Engines } from "./engines.js";
import { Fleet } from "./fleet.js";
import { familiar, title } from "./format.js";
import { begin, showLimits } from "./forms.js";
import { Images, pin, remove, wouldFree } from "./images.js";
import { JobPage } from "./jobpage.js";
import { JobLists } from "./jobs.js";
import { Mirror } from "./mirror.js";
import { Model } from "./model.js";
import { question } from "./question.js";
import { Registries } from "./registries.js";
import { attribute, byId, hide, text } from "./rows.js";
import { Steering } from "./steering.js";
import { follow } from "./stream.js";
import { showRates, showStatus } from "./totals.js";
import { Transfers } from "./transfers.js";

/** Milliseconds from one request for the lists and the history to the next; none is made unless something changed. */
const LISTS_EVERY = 5000;
const HISTORY_EVERY = 10_000;
/** Milliseconds after which the chart moves on although nothing happens. */
const CHART_EVERY = 60_000;
/** Running jobs above which the page does not try to be pretty. */
const BUSY = 30;
/** Milliseconds after which a frame is late. */
const LATE = 250;
/** How many times as long as a drawing took the page does something else. */
const SHARE = 8;

const model = new Model();
const steering = new Steering({ attempt });
const actions = { again: draw, cancel, steering, begin, pin: change(pin, "pinned"), remove: removeImage };
const lists = new JobLists(actions);
const page = new JobPage(actions);
const transfers = new Transfers();
const images = new Images(actions);
const clients = new Clients();
const registries = new Registries({ clear, steering });
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
/** The newest state: the free disk, and the rest as text. */
let known = {};
/** Whether the page of a job is to get the focus when it is shown. */
let focusing = false;
let ticking = 0;

/** Draw with the next frame; however much happens before, once, and rarely where it is much work. */
function draw() {
  if (drawing) return;
  drawing = true;
  // The whole state of the daemon comes in pieces; half of it is not shown.
  const rest = Math.max(drawn + SHARE * cost, fresh) - performance.now();
  if (rest > 16) setTimeout(frame, rest);
  else frame();
}

/** Draw with the next frame; where the browser makes none for long, without it. */
function frame() {
  const late = document.hidden ? 0 : setTimeout(once, LATE);
  const next = requestAnimationFrame(once);
  function once() {
    clearTimeout(late);
    cancelAnimationFrame(next);
    show();
  }
}

function show() {
  drawing = false;
  // The daemon may have been connected since.
  if (performance.now() < fresh) {
    draw();
    return;
  }
  const began = performance.now();
  const { job, filters } = address();
  hide(byId("lists"), Boolean(job));
  hide(byId("job-page"), !job);
  const running = model.running().length;
  if (job) {
    page.show(model, job);
    if (focusing) byId("job-page").focus({ preventScroll: true });
    focusing = false;
  } else {
    lists.show(model, filters);
    transfers.show(model);
    images.show(model);
    clients.show(model);
  }
  showRates(model.rates(), running, job && model.jobs.get(job));
  // Where much moves, nothing glides: every moving bar is work for the browser.
  attribute(document.body, "data-busy", String(running > BUSY));
  drawn = performance.now();
  cost = drawn - began;
  if (!ticking && model.counting()) ticking = setTimeout(tick, 1000);
}

/** A second has passed, for what is counted in seconds. */
function tick() {
  ticking = 0;
  if (document.hidden) return;
  model.tick();
  draw();
}

/** Drop the state of an earlier connection when the present one delivers. */
function renew() {
  if (!stale) return;
  stale = false;
  fresh = performance.now() + 60;
  model.clear();
  draw();
}

const again = follow("/api/v1/events?events=status", headers, {
  opened() {
    known = {};
    link("live", "live");
    hide(byId("ask"), true);
    hide(byId("notice"), true);
    stale = true;
    // A daemon without jobs sends no event of one.
    setTimeout(renew, 400);
  },
  event(kind, data) {
    if (kind === "status") {
      status(data);
      return;
    }
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

/** The state of the daemon has changed, or what is read besides. */
function status(data) {
  showStatus(data);
  showLimits(null, data.binding);
  steering.status(data);
  registries.moved(data.hosts);
  if (started !== null && started !== data.started) said("xferd was restarted.");
  started = data.started;
  // Other programs write to the disk, too.
  const { free } = data.disk;
  const rest = JSON.stringify({ ...data, disk: null });
  const only = free !== known.free && rest === known.rest;
  known = { free, rest };
  if (only) return;
  readLists();
  readHistory();
}

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

// ------------------------------------------------------------------ actions

async function cancel(job) {
  const others = new Set(model.transfersOf(job.id).flatMap(({ jobs }) => jobs));
  others.delete(job.id);
  const shared = others.size ? ` ${others.size === 1 ? "Another job needs some of its transfers, which continue" : `${others.size} other jobs need some of its transfers, which continue`}.` : "";
  if (await question(`Cancel the ${job.kind} of ${title(job)}?`, `What it has fetched is kept for a while.${shared}`, "Cancel the job")) {
    await attempt(() => ask("DELETE", jobPath(job.id)), "The job could not be cancelled");
  }
}

async function removeImage(image) {
  const name = familiar(image.reference);
  if (await question(`Remove ${name}?`, wouldFree(image), "Remove")) {
    if (await attempt(() => remove(image), `${name} could not be removed`)) text(byId("said"), `${name} was removed.`);
  }
}

/** An action on an image, with the complaint where it fails. */
function change(action, word) {
  return (image) => attempt(() => action(image), `${familiar(image.reference)} could not be ${word}`);
}

/** Have the daemon forget a registry's pauses, quotas and failures. */
async function clear(host) {
  const done = await attempt(() => ask("DELETE", `/hosts/${encodeURIComponent(host)}`), `${host} could not be cleared`);
  if (!done) return;
  registries.show(await ask("GET", "/hosts"));
  text(byId("said"), `${host} was cleared.`);
}

/** Do something; gives its answer, or null after a complaint. */
async function attempt(action, complaint) {
  try {
    return (await action()) ?? true;
  } catch (error) {
    said(`${complaint}: ${error.message}`);
    return null;
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

// ----------------------------------------------- what no event has: requests

/** A request that is made again only where something has changed, and then not at once. */
function paced(request, every) {
  let last = -Infinity;
  let timer = 0;
  async function run() {
    timer = 0;
    if (document.body.dataset.link !== "live" || document.hidden) return;
    last = performance.now();
    // The stream of events notices too, and says so.
    await request().catch(() => {});
  }
  return () => {
    timer ||= setTimeout(run, Math.max(last + every - performance.now(), 0));
  };
}

const readLists = paced(async () => {
  const limits = await ask("GET", "/limits");
  showLimits(limits);
  clients.limits(limits.clients);
  const hosts = await ask("GET", "/hosts");
  registries.show(hosts);
  mirror.show(await ask("GET", "/registry"), await ask("GET", "/registry/repositories"), hosts);
  engines.show(await ask("GET", "/engines"));
  fleet.show(await ask("GET", "/fleet"));
}, LISTS_EVERY);

let history = null;
let moving = 0;

const readHistory = paced(async () => {
  history = await ask("GET", "/history");
  clients.moved(history.clients);
  drawChart();
  draw();
  // The bytes of the last minute become fewer without an event, and the last sample is still to come.
  if (Object.values(history.clients).some(Boolean)) readHistory();
}, HISTORY_EVERY);

/** Draw the chart, and again in a minute as long as it shows anything. */
function drawChart() {
  clearTimeout(moving);
  if (showHistory(history, now())) moving = setTimeout(drawChart, CHART_EVERY);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  readLists();
  readHistory();
  tick();
});
addEventListener("hashchange", () => {
  // What is new on the page is read from its beginning.
  focusing = Boolean(address().job);
  draw();
});
