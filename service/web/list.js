// The exports that are shown, newest first.
//
// Changes are gathered, and written to the page in animation frames, each for
// no longer than a slice of it: a thousand at once must not stop the typing.

import * as api from "./api.js";
import { Card, keyOf } from "./card.js";
import { byId, say } from "./dom.js";

const PAGE = 100;
const LARGEST_PAGE = 1000; // that the server gives
const SLICE = 8; // ms of a frame

export class List {
  #cards = new Map(); // by id
  #sorted = []; // the same, as on the page
  #changes = new Map(); // id -> export, or null once it is deleted
  #heard = null; // ids that changed while the list was being read
  #status = "";
  #next; // path of the following page
  #scheduled = false;

  /** *confirm* asks before a deletion; *reread* sees to it that `refresh` succeeds. */
  constructor({ confirm, reread }) {
    this.reread = reread;
    this.element = byId("list");
    this.older = byId("older");
    this.act = { confirm, changed: (one) => this.change(one), removed: (id) => this.remove(id) };
    this.older.addEventListener("click", () => this.#showOlder());
    for (const choice of document.querySelectorAll("[name=status]")) {
      choice.addEventListener("change", () => this.#choose(choice.value));
    }
    setInterval(() => {
      for (const card of this.#sorted) card.tick();
    }, 1000);
  }

  /** Show *item* as it is now. */
  change(item) {
    this.#heard?.add(item.jobId);
    this.#put(item);
  }

  /** Show it no longer. */
  remove(id) {
    this.#heard?.add(id);
    this.#changes.set(id, null);
    this.#schedule();
  }

  /** Show *item*, which this page has just created, whatever was chosen. */
  reveal(item) {
    if (!this.#matches(item)) {
      byId("status-all").checked = true;
      this.#choose("");
    }
    // The stream may have been faster than the answer: then it knows more.
    if (!this.#knows(item)) this.change(item);
    this.#flush();
    this.#cards.get(item.jobId)?.element.scrollIntoView({ block: "nearest" });
  }

  /** Read again as much as is shown.  What is heard meanwhile is newer than what is read. */
  async refresh() {
    const status = this.#status;
    const heard = new Set();
    this.#heard = heard;
    const wanted = Math.max(PAGE, this.#cards.size);
    const read = [];
    let next = api.firstPage(status, Math.min(wanted, LARGEST_PAGE));
    try {
      do {
        const page = await api.page(next);
        read.push(...page.exports);
        next = page.next;
      } while (next && read.length < wanted);
    } catch (problem) {
      if (!this.#cards.size) this.element.dataset.state = "unread";
      throw problem;
    } finally {
      this.#heard = null;
    }
    if (status !== this.#status) return; // that is being read next
    this.#next = next;
    const found = new Set(read.map((one) => one.jobId));
    const last = next ? keyOf(read.at(-1)) : "";
    for (const [id, card] of this.#cards) {
      if (!heard.has(id) && !found.has(id) && card.key >= last) this.#changes.set(id, null);
    }
    for (const one of read.filter(({ jobId }) => !heard.has(jobId))) this.#put(one);
    this.#schedule();
  }

  async #showOlder() {
    this.older.disabled = true;
    const known = (one) => this.#knows(one);
    try {
      let page;
      do {
        page = await api.page(this.#next);
        this.#next = page.next;
      } while (page.next && page.exports.every(known)); // because they wait, or run
      for (const one of page.exports.filter((one) => !known(one))) this.#put(one);
      say(byId("list-problem"), "");
    } catch (problem) {
      say(byId("list-problem"), problem.message);
    }
    this.older.disabled = false;
    this.#schedule();
  }

  #choose(status) {
    this.#status = status;
    this.#next = undefined;
    this.#changes.clear();
    this.#cards.clear();
    this.#sorted = [];
    this.element.replaceChildren();
    this.element.dataset.state = "loading";
    this.reread();
  }

  #knows = ({ jobId }) => this.#cards.has(jobId) || this.#changes.has(jobId);

  #matches = (item) => !this.#status || item.status === this.#status;

  #put(item) {
    this.#changes.set(item.jobId, item);
    this.#schedule();
  }

  #schedule() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  #flush() {
    const until = performance.now() + SLICE;
    for (const [id, item] of this.#changes) {
      this.#changes.delete(id);
      this.#show(id, item);
      if (performance.now() > until) break;
    }
    if (this.#changes.size) this.#schedule();
    else if (!this.#heard) this.element.dataset.state = this.#cards.size ? "full" : "empty";
    this.older.hidden = !this.#next;
  }

  #show(id, item) {
    const card = this.#cards.get(id);
    if (!item || !this.#matches(item)) this.#drop(id, card);
    else if (!card) this.#insert(id, new Card(item, this.act));
    else if (JSON.stringify(card.item) !== JSON.stringify(item)) card.update(item);
  }

  #insert(id, card) {
    const index = this.#position(card.key);
    this.element.insertBefore(card.element, this.#sorted[index]?.element ?? null);
    this.#sorted.splice(index, 0, card);
    this.#cards.set(id, card);
  }

  #drop(id, card) {
    if (!card) return;
    const index = this.#position(card.key);
    if (card.element.contains(document.activeElement)) {
      const neighbour = this.#sorted[index + 1] ?? this.#sorted[index - 1];
      (neighbour?.parts.details.firstElementChild ?? byId("exports-title")).focus();
    }
    this.#sorted.splice(index, 1);
    this.#cards.delete(id);
    card.element.remove();
  }

  /** Where *key* is, or belongs, among the cards. */
  #position(key) {
    let [low, high] = [0, this.#sorted.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#sorted[middle].key > key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
