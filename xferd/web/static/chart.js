/**
 * The bytes of the last hour, as the daemon keeps them: a bar for each minute, what came and was
 * saved above the line, what was sent below.
 */

import { bytes } from "./format.js";
import { byId, hide, text } from "./rows.js";

const MINUTES = 60;
const MINUTE = 60_000;
const HEIGHT = 132;
const AXIS = { left: 64, bottom: 18, top: 8, right: 4 };
const WAYS = ["received", "saved", "sent"];
/** Milliseconds between two labels of the axis, on a wide chart and on a narrow one. */
const STEPS = [10 * MINUTE, 20 * MINUTE];

let shown = null;
let width = 0;

/** The bytes of each minute, the oldest first: {start, received, saved, sent}. */
export function minutes({ interval, until, received, sent, saved }, now) {
  const last = Math.floor(now / MINUTE);
  const found = Array.from({ length: MINUTES }, (_, i) => ({ start: (last - MINUTES + 1 + i) * MINUTE, received: 0, saved: 0, sent: 0 }));
  const end = Date.parse(until);
  received.forEach((_, i) => {
    // A sample belongs to the minute of its middle.
    const middle = end - (received.length - i - 0.5) * interval * 1000;
    const minute = found[Math.floor(middle / MINUTE) - last + MINUTES - 1];
    if (!minute) return;
    minute.received += received[i];
    minute.sent += sent[i];
    minute.saved += saved[i];
  });
  return found;
}

/** A round number of bytes, at least this large: 1, 2 or 5 and zeros. */
export function nice(n) {
  const power = 10 ** Math.floor(Math.log10(Math.max(n, 1)));
  return power * [1, 2, 5, 10].find((one) => one * power >= n);
}

function node(name, attributes, words) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (words !== undefined) made.textContent = words;
  return made;
}

const clock = (time) => new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

function draw() {
  if (!shown || !width) return;
  const all = shown;
  const chart = byId("chart");
  chart.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const up = nice(Math.max(...all.map((one) => one.received + one.saved)));
  const most = Math.max(...all.map((one) => one.sent));
  const down = most ? nice(most) : 0;
  const inner = HEIGHT - AXIS.top - AXIS.bottom;
  const whole = Math.max(up, 1) + down;
  const y = (n) => AXIS.top + ((up - n) / whole) * inner;
  const step = (width - AXIS.left - AXIS.right) / MINUTES;
  const parts = [];
  const lines = new Set([up, up / 2, 0, ...(down ? [-down] : [])]);
  for (const value of lines) {
    parts.push(node("line", { class: value ? "grid" : "zero", x1: AXIS.left, x2: width - AXIS.right, y1: y(value), y2: y(value) }));
    // Two labels do not overlap.
    if (value !== up / 2 || y(up / 2) - y(up) > 16) parts.push(node("text", { class: "y", x: AXIS.left - 8, y: y(value) + 4 }, bytes(Math.abs(value))));
  }
  const every = STEPS[width < 600 ? 1 : 0];
  const bar = Math.max(step - (step > 6 ? 2 : 1), 1);
  all.forEach((one, i) => {
    const x = AXIS.left + i * step;
    if (one.start % every === 0 && x > AXIS.left + 14 && x < width - 18) {
      parts.push(node("line", { class: "tick", x1: x, x2: x, y1: HEIGHT - AXIS.bottom, y2: HEIGHT - AXIS.bottom + 4 }));
      parts.push(node("text", { class: "x", x, y: HEIGHT - 3 }, clock(one.start)));
    }
    if (!one.received && !one.saved && !one.sent) return;
    const group = node("g", {});
    group.append(node("title", {}, `${clock(one.start)}: ${bytes(one.received)} received, ${bytes(one.saved)} saved, ${bytes(one.sent)} sent`));
    let from = 0;
    for (const way of WAYS) {
      const top = way === "sent" ? 0 : from + one[way];
      const bottom = way === "sent" ? -one.sent : from;
      if (one[way]) group.append(node("rect", { class: way, x, width: bar, y: y(top), height: Math.max(y(bottom) - y(top), 1) }));
      from = top;
    }
    parts.push(group);
  });
  chart.replaceChildren(...parts);
}

/** Show the history as the API has it. */
export function showHistory(history, now) {
  const all = minutes(history, now);
  const sums = Object.fromEntries(WAYS.map((way) => [way, all.reduce((sum, one) => sum + one[way], 0)]));
  const empty = WAYS.every((way) => !sums[way]);
  shown = empty ? null : all;
  const words = empty ? "Nothing moved in the last hour." : WAYS.map((way) => `${bytes(sums[way])} ${way}`).join(" · ");
  text(byId("chart-text"), words);
  hide(byId("chart"), empty);
  hide(byId("chart-legend"), empty);
  byId("chart").setAttribute("aria-label", `Bytes of each minute of the last hour: ${words}`);
  draw();
  return !empty;
}

new ResizeObserver(([{ contentRect }]) => {
  const before = width;
  width = Math.round(contentRect.width);
  if (width !== before) draw();
}).observe(byId("chart-card"));
