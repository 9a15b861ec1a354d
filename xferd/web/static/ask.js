/**
 * Requests to the daemon, beside its events.
 */

const API = "/api/v1";

/** Milliseconds by which the daemon's clock is ahead of this machine's. */
let ahead = 0;

/** What shows the token, if there is one. */
export function headers() {
  const token = sessionStorage.getItem("token");
  return token ? { authorization: `Bearer ${token}` } : {};
}

/** The daemon's time, in milliseconds since 1970. */
export const now = () => Date.now() + ahead;

/**
 * Ask for something under /api/v1; gives the answer's JSON.
 *
 * What goes wrong is an Error with the daemon's own words.
 */
export async function ask(method, path, body) {
  return (await answer(method, path, body)).value;
}

/** Ask for one page of a list; gives {value, next}: the path of the next page, or null. */
export async function askPage(path) {
  const { value, response } = await answer("GET", path);
  const link = response.headers.get("link")?.match(/<([^>]*)>; rel="next"/);
  return { value, next: link ? link[1].slice(API.length) : null };
}

async function answer(method, path, body) {
  let response;
  try {
    response = await fetch(API + path, {
      method,
      cache: "no-store",
      headers: body === undefined ? headers() : { ...headers(), "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Error("no connection to xferd");
  }
  const date = Date.parse(response.headers.get("date"));
  // The header has whole seconds, and took its time: less than that means nothing.
  if (date) ahead = Math.abs(date - Date.now()) < 3000 ? 0 : date - Date.now();
  const value = await response.json().catch(() => null);
  if (!response.ok) throw new Error(value?.error?.message ?? `xferd answers with status ${response.status}`);
  return { value, response };
}

/** The path of one job. */
export const jobPath = (id) => `/jobs/${encodeURIComponent(id)}`;
