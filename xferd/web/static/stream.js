/**
 * Server-sent events over fetch.
 *
 * An EventSource can neither send a token, nor report why it failed, nor detect
 * a connection that died silently; this can.
 */

/** Milliseconds without a byte after which the connection is closed: three heartbeats. */
const SILENCE = 46_000;
const WAITS = [250, 500, 1000, 2000, 4000];

/**
 * Follow the events at a URL for ever.
 *
 * @param {object} on opened(), event(kind, data), lost(why, milliseconds until the next try), denied()
 * @returns a function that tries again at once
 */
export function follow(url, headers, on) {
  let failures = 0;
  let timer = 0;
  let running = false;

  async function run() {
    clearTimeout(timer);
    if (running) return;
    running = true;
    let why = "the connection ended";
    try {
      const status = await once(url, headers(), () => { failures = 0; on.opened(); }, on.event);
      if (status === 401) {
        on.denied();
        return;
      }
      if (status !== 200) why = `it answered with status ${status}`;
    } catch (error) {
      if (error.name === "AbortError") why = "no data received";
    } finally {
      running = false;
    }
    const wait = WAITS[Math.min(failures, WAITS.length - 1)];
    failures += 1;
    on.lost(why, wait);
    timer = setTimeout(run, wait);
  }

  addEventListener("online", run);
  run();
  return run;
}

/** Follow until the connection ends; returns the HTTP status. */
async function once(url, headers, opened, event) {
  const given = new AbortController();
  let watchdog = setTimeout(() => given.abort(), SILENCE);
  try {
    const response = await fetch(url, {
      headers: { accept: "text/event-stream", ...headers }, cache: "no-store", signal: given.signal,
    });
    if (response.status !== 200) return response.status;
    opened();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const parse = parser(event);
    for (;;) {
      const { done, value } = await reader.read();
      clearTimeout(watchdog);
      if (done) return 200;
      watchdog = setTimeout(() => given.abort(), SILENCE);
      parse(value);
    }
  } finally {
    clearTimeout(watchdog);
  }
}

/** A parser of an event stream: call it with each piece of text. */
export function parser(event) {
  let rest = "";
  let kind = "";
  let data = "";
  return (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (data) event(kind, JSON.parse(data));
        kind = data = "";
      } else if (line.startsWith("event: ")) {
        kind = line.slice(7);
      } else if (line.startsWith("data: ")) {
        data += line.slice(6);
      }
    }
  };
}
