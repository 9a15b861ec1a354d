/**
 * The address behind the "#": one job, or the filters of the lists.
 */

/** The filters, as GET /api/v1/jobs names them. */
export const FILTERS = ["text", "state", "kind", "host", "client"];

/** What the address names: {job, filters}; the job is null for the lists. */
export function address() {
  const [path, query] = location.hash.slice(1).split("?");
  const job = path.match(/^\/jobs\/(.+)$/);
  const filters = {};
  for (const [name, value] of new URLSearchParams(query)) if (FILTERS.includes(name) && value) filters[name] = value;
  return { job: job ? decodeURIComponent(job[1]) : null, filters };
}

export const jobAddress = (id) => `#/jobs/${encodeURIComponent(id)}`;

/** Set the filters.  This makes no new entry in the browser's history, as each typed letter would. */
export function filter(filters) {
  const query = new URLSearchParams(FILTERS.filter((name) => filters[name]).map((name) => [name, filters[name]]));
  history.replaceState(null, "", query.size ? `#/?${query}` : "#/");
  dispatchEvent(new HashChangeEvent("hashchange"));
}

const host = (reference) => reference?.split("/")[0];

/** Whether a job passes filters, as the daemon reads them. */
export function passes(job, { text, state, kind, host: registry, client }) {
  if (state && job.state !== state) return false;
  if (kind && job.kind !== kind) return false;
  if (client && job.client !== client) return false;
  if (registry && ![host(job.reference), host(job.target)].includes(registry)) return false;
  if (!text) return true;
  const texts = [job.id, job.reference, job.target, job.client, job.error?.code, job.error?.message];
  return texts.some((one) => one?.toLowerCase().includes(text.toLowerCase()));
}
