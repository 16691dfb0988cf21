// One export on the page: made once, and changed where the export changed.

import * as api from "./api.js";
import { announce, copy, make, say, stamp } from "./dom.js";
import { attemptCells, details, figures, form, hasExpired, title } from "./figures.js";
import * as format from "./format.js";
import { Sparkline } from "./sparkline.js";

const STATUSES = {
  pending: { name: "Pending", actions: ["cancel"] },
  processing: { name: "Running", actions: ["cancel"] },
  completed: { name: "Completed", actions: ["download", "link", "share", "remove"] },
  failed: { name: "Failed", actions: ["retry", "remove"] },
  cancelled: { name: "Cancelled", actions: ["retry", "remove"] },
};
const ACTIONS = ["download", "link", "share", "cancel", "retry", "remove"];
const OF_THE_FILE = ["download", "link", "share"];

/** Newest first is descending by this. */
export const keyOf = ({ createdAt, jobId }) => `${createdAt.replace("Z", "")} ${jobId}`;

export class Card {
  #sparkline;
  #detailed;

  /** *changed* and *removed* hear what came of the buttons; *confirm* asks before a deletion. */
  constructor(item, act) {
    [this.element, this.parts] = stamp("export-template");
    this.key = keyOf(item);
    this.act = act;
    this.#sparkline = new Sparkline(this.parts.sparkline);
    this.#introduce(item);
    this.#listen(item.jobId);
    this.update(item);
  }

  /** Show what never changes. */
  #introduce(item) {
    const { parts } = this;
    say(parts.title, title(item));
    parts.title.title = item.query ?? item.source;
    parts.title.id = `export-${item.jobId}`;
    parts.track.setAttribute("aria-labelledby", parts.title.id);
    for (const one of [...ACTIONS, "sha"]) {
      parts[one].setAttribute("aria-describedby", parts.title.id);
    }
    say(parts.form, form(item));
    say(parts.created, format.instant(item.createdAt));
    parts.created.dateTime = item.createdAt;
    parts.created.title = format.exactly(item.createdAt);
    say(parts.by, item.requestedBy);
    parts.download.href = api.downloadUrl(item.jobId);
  }

  #listen(id) {
    const { parts, act } = this;
    const press = (button, request) =>
      button.addEventListener("click", () => this.#attempt(id, request));
    press(parts.cancel, async () => act.changed(await api.cancel(id)));
    press(parts.retry, async () => act.changed(await api.retry(id)));
    press(parts.remove, async () => {
      if (!(await act.confirm(this.item))) return;
      await api.remove(id);
      act.removed(id);
    });
    press(parts.link, () => copy(parts.download.href));
    press(parts.share, async () =>
      copy(await api.share(id), "Copied a link that works without a key, for a day"),
    );
    press(parts.sha, () => copy(this.item.sha256));
    parts.details.addEventListener("toggle", () => parts.details.open && this.#showDetails());
  }

  async #attempt(id, request) {
    // Disabling the button would take the focus from it.
    if (this.element.hasAttribute("aria-busy")) return;
    this.element.setAttribute("aria-busy", "true");
    this.#notice("");
    try {
      await request();
    } catch (problem) {
      this.#notice(problem.message);
      // Most likely it has changed before we heard of it.
      await api
        .show(id)
        .then(this.act.changed, ({ status }) => status === 404 && this.act.removed(id));
    }
    this.element.removeAttribute("aria-busy");
  }

  #notice(text) {
    this.parts.notice.hidden = !text;
    say(this.parts.notice, text);
  }

  update(item) {
    const before = this.item?.status;
    this.item = item;
    this.element.dataset.status = item.status;
    say(this.parts.status, STATUSES[item.status].name);
    this.#showActions();
    this.#showProgress();
    this.#showFigures();
    this.#showReason();
    if (before === item.status) return;
    if (before) this.#announce();
    this.#detailed = false;
    if (this.parts.details.open) this.#showDetails();
  }

  /** Show what changes with time alone. */
  tick() {
    if (this.item.status === "processing") this.#showFigures();
    else if (!this.expired && hasExpired(this.item)) this.update(this.item);
  }

  #announce() {
    const { status, rows, error } = this.item;
    const outcome = status === "completed" ? format.rows(rows) : (error?.message ?? "");
    announce(`Export of ${title(this.item)}: ${STATUSES[status].name}. ${outcome}`);
  }

  #showActions() {
    const { item, parts } = this;
    this.expired = hasExpired(item);
    const wanted = STATUSES[item.status].actions.filter(
      (one) => !(this.expired && OF_THE_FILE.includes(one)),
    );
    const focused = ACTIONS.find((one) => parts[one] === document.activeElement);
    for (const one of ACTIONS) parts[one].hidden = !wanted.includes(one);
    if (focused && !wanted.includes(focused)) parts[wanted[0]].focus();
  }

  #showProgress() {
    const { item, parts } = this;
    parts.progress.hidden = item.status !== "processing";
    parts.track.setAttribute("aria-valuenow", item.progress);
    parts.track.style.setProperty("--done", item.progress / 100);
    say(parts.percent, format.percent(item.progress));
    this.#sparkline.add(item);
  }

  #showFigures() {
    const { item, parts } = this;
    const shown = figures(item);
    while (parts.figures.children.length > shown.length) parts.figures.lastChild.remove();
    shown.forEach(([label, text, hint = ""], index) => {
      const figure =
        parts.figures.children[index] ??
        parts.figures.appendChild(make("div", {}, make("dt"), make("dd")));
      say(figure.firstChild, label);
      say(figure.lastChild, text);
      figure.title = hint;
    });
    parts.receipt.hidden = !item.sha256;
    say(parts.sha, `${item.sha256?.slice(0, 10)}…`);
    parts.sha.title = `Copy ${item.sha256}`;
  }

  #showReason() {
    const { parts, item } = this;
    parts.reason.hidden = !item.error;
    if (!item.error) return;
    const { message, hint, detail, sqlstate } = item.error;
    const willRunAgain = item.status === "pending";
    say(parts.message, willRunAgain ? `Attempt ${item.attempt} failed: ${message}` : message);
    for (const [name, text] of Object.entries({ hint, detail, sqlstate })) {
      parts[name].hidden = !text;
      say(parts[name].lastElementChild, text ?? "");
    }
  }

  #showDetails() {
    if (this.#detailed) return;
    this.#detailed = true;
    const { item, parts } = this;
    parts.facts.replaceChildren(
      ...details(item).flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]),
    );
    parts.history.hidden = !item.history.length;
    const row = ([first, ...cells]) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, first),
        ...cells.map((text) => make("td", {}, text)),
      );
    parts.attempts.replaceChildren(...item.history.map((one) => row(attemptCells(one))));
  }
}
