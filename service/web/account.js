// Who uses the page: sign in with a key, and out.

import { allowance } from "./allowance.js";
import * as api from "./api.js";
import { byId, say } from "./dom.js";

const FORM = /^[!-~]+$/; // other characters cannot be sent in a header

export class Account {
  #isIn = false;

  /** *start* is called once it is known who uses the page. */
  constructor(start) {
    this.start = start;
    this.form = byId("sign-in");
    this.problem = byId("sign-in-problem");
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#signIn(this.form.elements.key);
    });
    byId("allowance").addEventListener("beforetoggle", () => this.#showLimits());
    byId("sign-out").addEventListener("click", () => this.#signOut());
    api.onSignedOut(() => this.#ask());
  }

  /** Find out who uses the page; ask for a key if one is needed. */
  async enter() {
    let me;
    try {
      me = await api.me();
    } catch (problem) {
      if (problem.status === 401) return;
      me = { requester: null }; // the page itself says what is wrong
    }
    this.#isIn = true;
    say(byId("requester"), me.requester ?? "");
    byId("account").hidden = me.requester === null;
    byId("sign-out").hidden = me.by !== "key";
    this.form.hidden = true;
    byId("connection").hidden = false;
    byId("main").hidden = false;
    this.start();
  }

  /** Ask for a key; what was shown to somebody who is no longer signed in goes away. */
  #ask() {
    if (this.#isIn) {
      location.reload();
      return;
    }
    byId("connection").hidden = true;
    this.form.hidden = false;
    this.form.elements.key.focus();
  }

  async #showLimits() {
    try {
      byId("limits").replaceChildren(...allowance(await api.me()));
    } catch (problem) {
      say(byId("limits"), problem.message);
    }
  }

  async #signIn(field) {
    const key = field.value.trim();
    this.problem.hidden = true;
    try {
      if (!FORM.test(key)) throw new Error("This is not a key.");
      await api.signIn(key);
    } catch (problem) {
      this.#refuse(problem);
      return;
    }
    field.value = "";
    await this.enter();
  }

  #refuse({ message }) {
    say(this.problem, message);
    this.problem.hidden = false;
  }

  async #signOut() {
    await api.signOut().catch(() => {});
    location.reload();
  }
}
