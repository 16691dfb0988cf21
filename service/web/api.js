// The REST interface.  Every failure is a Problem, with a text for people.

const PATIENCE = 20_000; // ms

/** What RFC 9457 tells, or that there was no answer at all (status 0). */
export class Problem extends Error {
  constructor(members) {
    super(members.detail ?? members.title);
    Object.assign(this, { status: 0, ...members });
  }
}

// Our clock may be wrong; the server's is what its instants are measured by.
let skew = 0;
export const now = () => Date.now() + skew;

function keepTime(answer) {
  const off = Date.parse(answer.headers.get("Date")) - Date.now();
  skew = Math.abs(off) > 2000 ? off : 0; // the header has whole seconds
}

// What happens when no key is shown, or one that is not accepted any more.
let signedOut = () => {};
export const onSignedOut = (act) => {
  signedOut = act;
};

async function call(method, path, { body, key, signal, bearer } = {}) {
  const headers = {};
  if (bearer) headers.Authorization = `Bearer ${bearer}`;
  if (body) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  const patience = AbortSignal.timeout(PATIENCE);
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers,
      body: body && JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, patience]) : patience,
    });
    keepTime(answer);
    if (answer.ok) {
      const content = answer.status === 204 ? null : await answer.json();
      return [content, answer.headers];
    }
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem({ detail: "The server cannot be reached." });
  }
  const told = await answer.json().catch(() => ({}));
  const { status } = answer;
  if (status === 401 && !bearer) signedOut();
  throw new Problem({ title: `The server answered ${status}.`, ...told, status });
}

/** Who asks; its `requester` is null if the service asks nobody. */
export const me = async () => (await call("GET", "/me"))[0];
export const signIn = (bearer) => call("POST", "/session", { bearer });
export const signOut = () => call("DELETE", "/session");

const of = (id) => `/exports/${encodeURIComponent(id)}`;

export const firstPage = (status, limit) =>
  `/exports?${new URLSearchParams({ limit, ...(status && { status }) })}`;

/** A page of exports, and the path of the following one, if there is one. */
export async function page(path) {
  const [{ exports }, headers] = await call("GET", path);
  const [, next] = /<([^>]*)>; *rel="next"/.exec(headers.get("Link") ?? "") ?? [];
  return { exports, next };
}

export const sources = async () => (await call("GET", "/sources"))[0].sources;
export const show = async (id) => (await call("GET", of(id)))[0];
export const cancel = async (id) => (await call("POST", `${of(id)}/cancel`))[0];
export const retry = async (id) => (await call("POST", `${of(id)}/retry`))[0];
export const remove = async (id) => (await call("DELETE", of(id)))[0];
export const submit = async (body, key) => (await call("POST", "/exports", { body, key }))[0];
export const preview = async (body, signal) =>
  (await call("POST", "/exports?dryRun=true", { body, signal }))[0];

export const downloadUrl = (id) => new URL(`${of(id)}/download`, location.href).href;

/** Make a link that downloads the file without a key, for a day; return its URL. */
export async function share(id) {
  const [{ url }] = await call("POST", `${of(id)}/links`, { body: { expiresIn: 86_400 } });
  return new URL(url, location.href).href;
}
