// Keeps the page current: one EventSource, and polling while there is none.
//
//   connecting ─► live ─► interrupted ─► live …      the list is read again at
//                  ▲          │   ▲                  each opening, so nothing is
//                  └──────────┴─► unreachable        missed in between
//
// EventSource reconnects by itself, but silently, and not after an HTTP error;
// so each break closes it here, and a new one is opened after a pause.

const POLL_EVERY = 2000; // ms, while the stream is not open
const SHORTEST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;

export class Stream {
  #source = null;
  #open = false;
  #problem = null; // why the list could not be read
  #pause = SHORTEST_PAUSE;
  #reconnecting;
  #polling;
  #refreshing = false;
  #again = false;

  /** *refresh* reads everything again; the others hear of changes and of the state. */
  constructor({ changed, deleted, refresh, state }) {
    Object.assign(this, { changed, deleted, refresh, state });
  }

  start() {
    // Browsers open six connections to a host: hidden tabs give theirs back.
    document.addEventListener("visibilitychange", () =>
      document.hidden ? this.#stop() : this.reconnect(),
    );
    addEventListener("online", () => this.reconnect());
    this.reconnect();
  }

  /** Connect now, rather than after the pause. */
  reconnect() {
    this.#stop(); // also what seems open, and may have died while the machine slept
    const source = new EventSource("/events");
    this.#source = source;
    const hear = (name, tell) =>
      source.addEventListener(name, (event) => tell(JSON.parse(event.data)));
    hear("status", this.changed);
    hear("progress", this.changed);
    hear("deleted", ({ jobId }) => this.deleted(jobId));
    source.onopen = () => {
      this.#open = true;
      this.#pause = SHORTEST_PAUSE;
      this.poll();
    };
    source.onerror = () => this.#broke();
    this.#pollIn(POLL_EVERY);
  }

  #broke() {
    this.#stop();
    this.#reconnecting = setTimeout(() => this.reconnect(), this.#pause);
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
    this.#tell();
    this.poll();
  }

  #stop() {
    this.#open = false;
    this.#source?.close();
    clearTimeout(this.#reconnecting);
    clearTimeout(this.#polling);
  }

  #pollIn(pause) {
    clearTimeout(this.#polling);
    this.#polling = setTimeout(() => this.poll(), pause);
  }

  /** Read the list; again and again, until it is read under an open stream. */
  async poll() {
    clearTimeout(this.#polling);
    if (this.#refreshing) {
      this.#again = true; // what is being read may be from before the opening
      return;
    }
    this.#refreshing = true;
    const before = this.#problem;
    this.#problem = await this.refresh().then(
      () => null,
      (problem) => problem,
    );
    this.#refreshing = false;
    if (this.#again) {
      this.#again = false;
      this.poll();
      return;
    }
    this.#tell();
    if (document.hidden || (this.#open && !this.#problem)) return;
    if (before && !this.#problem) this.reconnect();
    else this.#pollIn(POLL_EVERY);
  }

  #tell() {
    if (this.#problem) this.state("unreachable", this.#problem);
    else this.state(this.#open ? "live" : "interrupted");
  }
}
