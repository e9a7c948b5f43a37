// What the page asks its server. A refusal is an Error with the server's one line.

async function answer(request) {
  let response;
  try {
    response = await request;
  } catch {
    throw new Error("the server does not answer; is pfgtrain web still running?");
  }
  const found = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(found.error ?? `the server answered ${response.status}`);
  return found;
}

const json = { "content-type": "application/json" };

export const get = (path) => answer(fetch(path));
export const post = (path, value) => answer(fetch(path, { method: "POST", headers: json, body: JSON.stringify(value) }));
export const remove = (path) => answer(fetch(path, { method: "DELETE", headers: json }));

/** Send one guide's bytes; the id it is kept under. */
export async function upload(file) {
  const headers = { "content-type": "application/octet-stream" };
  const path = `/api/guides?name=${encodeURIComponent(file.name || "pasted.png")}`;
  const body = await file.arrayBuffer().catch(() => {
    throw new Error(`${file.name}: cannot be read; drop images, not folders`);
  });
  return (await answer(fetch(path, { method: "POST", headers, body }))).id;
}

/**
 * Ask for the state again and again and hand each new one to `show`: often while something is under way. An
 * answer that is not the latest is never shown.
 */
export class Watch {
  constructor(show, lost) {
    this.show = show;
    this.lost = lost;
    this.version = "";
    this.busy = true;
    this.timer = 0;
    this.asking = false;
    document.addEventListener("visibilitychange", () => !document.hidden && this.now());
  }

  /** Ask at once. */
  now() {
    clearTimeout(this.timer);
    if (this.asking) this.again = true;
    else this.ask();
  }

  async ask() {
    this.asking = true;
    let pause = 1500;
    try {
      const state = await get(`/api/state?since=${this.version}`);
      this.lost(null);
      this.version = state.version;
      if (state.model) this.busy = this.show(state);
      pause = this.busy ? (document.hidden ? 1000 : 250) : 1200;
    } catch (problem) {
      this.lost(problem.message);
      this.version = "";
    }
    this.asking = false;
    if (this.again) pause = 0;
    this.again = false;
    this.timer = setTimeout(() => this.ask(), pause);
  }
}
