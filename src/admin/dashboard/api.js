// What the page asks the gateway for. Addresses are relative, so that the page works below any path.

/** A request that came back with an answer other than 2xx. */
export class Refused extends Error {
  constructor(status, text) {
    super(text.trim() || `status ${status}`);
    this.status = status;
  }
}

const PATIENCE_MS = 10_000;

async function ask(path, options = {}) {
  const answer = await fetch(`../${path}`, {
    cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS), ...options,
  });
  if (!answer.ok) throw new Refused(answer.status, await answer.text());
  return answer;
}

function query(values) {
  const pairs = Object.entries(values).filter(([, value]) => value !== null && value !== undefined);
  return new URLSearchParams(pairs).toString();
}

const json = async (path) => (await ask(path)).json();

/** Figures of the last `window` seconds; the series is that of `key` or `host`, if given. */
export const live = (window, only = {}) => json(`api/live?${query({ window, ...only })}`);

/** Percentile curve of a route over `window` seconds up to `until`, Unix milliseconds. */
export const curve = (key, window, until) => json(`api/curve?${query({ key, window, until })}`);

export const graph = (window) => json(`api/graph?${query({ window })}`);

export const slos = () => json("api/slos");

export const configuration = () => json("config_dump");

/** The explanation of a request, as text. */
export async function explain(request, port) {
  const options = { method: "POST", body: request, headers: { "content-type": "text/plain" } };
  return (await ask(`explain?${query({ port: port || null })}`, options)).text();
}
