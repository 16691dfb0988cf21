// What shall be exported: from the fields of the form to the body of POST /exports.

import * as api from "./api.js";
import { Conditions } from "./conditions.js";
import { byId, make, say } from "./dom.js";
import * as format from "./format.js";
import { Preview } from "./preview.js";

const TYPING = 350; // ms without a change after which a table is previewed
const MANY_COLUMNS = 16; // from which on one wants to search
const NOTHING_READABLE =
  "There is no table that csv_reader may read. Grant it one: GRANT SELECT ON … TO csv_reader.";

export class Form {
  #sources = new Map();
  #typing;
  #key = null; // the same request sent twice is one export

  /** *started* hears of each export that the form creates. */
  constructor(started) {
    this.started = started;
    this.form = byId("composer");
    this.fields = this.form.elements;
    this.preview = new Preview();
    this.filters = new Conditions("filter", () => this.#edited());
    this.orders = new Conditions("order", () => this.#edited());
    this.form.addEventListener("input", (event) => this.#edited(event.target.name));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#start();
    });
    byId("query").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.look();
    });
    byId("look").addEventListener("click", () => this.look());
    byId("all-columns").addEventListener("click", () => this.#tick(true));
    byId("no-columns").addEventListener("click", () => this.#tick(false));
    byId("find-column").addEventListener("input", (event) => this.#find(event.target.value));
    byId("reload-sources").addEventListener("click", () => this.load());
    this.#fit();
  }

  /** Ask what can be exported. */
  async load() {
    let problem = "";
    try {
      const found = await api.sources();
      if (!found.length) problem = NOTHING_READABLE;
      this.#sources = new Map(found.map((one) => [one.source, one]));
      const option = ({ source, estimatedRows }) =>
        make("option", { value: source }, `${source} (${format.rows(estimatedRows)})`);
      this.fields.source.replaceChildren(...found.map(option));
      this.#edited("source");
    } catch ({ message }) {
      problem = `What can be exported is not known: ${message}`;
    }
    byId("sources-problem").hidden = !problem;
    say(byId("sources-problem").firstElementChild, problem);
  }

  /** The server is back: ask again what it could not answer. */
  recover() {
    if (!this.#sources.size) this.load();
    else if (this.preview.refused) this.look();
  }

  #edited(name) {
    this.#key = null;
    if (name === "source") this.#showSource();
    if (name === "mode" || name === "format") this.#fit();
    this.#summarize();
    clearTimeout(this.#typing);
    if (this.#mode === "table") this.#typing = setTimeout(() => this.look(), TYPING);
    else this.preview.outdated();
  }

  #showSource() {
    const chosen = this.#sources.get(this.fields.source.value);
    if (!chosen) return;
    const { comment, columns, kind, bytes } = chosen;
    const about = [comment, `${kind}, ${format.size(bytes)}`];
    say(byId("source-comment"), about.filter(Boolean).join(" · "));
    byId("columns").replaceChildren(...columns.map(columnChoice));
    byId("find-column").hidden = columns.length < MANY_COLUMNS;
    byId("find-column").value = "";
    this.filters.reset(columns);
    this.orders.reset(columns);
  }

  get #mode() {
    return this.fields.mode.value;
  }

  /** Show the fields that mean something, and send no others. */
  #fit() {
    for (const part of this.form.querySelectorAll("[data-mode]")) {
      part.hidden = part.disabled = part.dataset.mode !== this.#mode;
    }
    const ofCsv = byId("csv-options");
    ofCsv.hidden = ofCsv.disabled = this.fields.format.value === "jsonl";
  }

  #summarize() {
    const { columns, filters, orderBy, limit } = this.#table();
    const all = format.number(byId("columns").children.length);
    say(
      byId("columns-summary"),
      columns ? `${format.number(columns.length)} of ${all}` : `all ${all}`,
    );
    say(byId("filters-summary"), filters ? format.number(filters.length) : "none");
    const order = orderBy && `by ${orderBy.map((one) => one.replace(/^-(.*)/, "$1 ↓")).join(", ")}`;
    const most = limit === undefined ? "" : format.rows(limit);
    say(byId("order-summary"), [order, most].filter(Boolean).join(", ") || "none");
    const { format: kind, compression, profile } = this.#options();
    const form = [kind.toUpperCase(), compression, profile];
    say(byId("options-summary"), form.filter(Boolean).join(", "));
  }

  /** Show what the export would be. */
  look() {
    clearTimeout(this.#typing);
    const body = this.#body();
    if (body) this.preview.show(body);
  }

  async #start() {
    const body = this.#body();
    if (!body || this.form.hasAttribute("aria-busy")) return;
    this.form.setAttribute("aria-busy", "true");
    this.#key ??= crypto.getRandomValues(new Uint32Array(4)).join("-");
    try {
      this.started(await api.submit(body, this.#key));
      this.#key = null;
    } catch (problem) {
      this.preview.refuse(problem);
    }
    this.form.removeAttribute("aria-busy");
  }

  /** The request, or null after saying what is missing. */
  #body() {
    const chosen = this.#mode === "table" ? this.#table() : { query: this.fields.query.value };
    let missing;
    if (chosen.source === "") missing = "There is nothing to export yet.";
    else if (chosen.columns?.length === 0) missing = "Tick at least one column.";
    else if (chosen.query?.trim() === "") missing = "Write a SELECT first.";
    if (!missing) return { ...chosen, ...this.#options() };
    this.preview.refuse({ message: missing });
    return null;
  }

  #table() {
    const body = { source: this.fields.source.value };
    const boxes = [...byId("columns").querySelectorAll("input")];
    const ticked = boxes.filter((box) => box.checked).map((box) => box.value);
    if (ticked.length < boxes.length) body.columns = ticked;
    const filters = this.filters.values();
    if (filters.length) body.filters = filters;
    const order = this.orders.values();
    if (order.length) {
      body.orderBy = order.map(({ column, op }) => (op === "descending" ? `-${column}` : column));
    }
    if (this.fields.limit.value !== "") body.limit = Number(this.fields.limit.value);
    return body;
  }

  /** What was chosen; all else is left to the defaults of the service. */
  #options() {
    const options = {};
    for (const field of byId("options").querySelectorAll("[name]")) {
      const { name, type, value } = field;
      if (field.matches(":disabled") || value === "") continue;
      if (type === "number") options[name] = Number(value);
      else if (type === "datetime-local") options[name] = new Date(value).toISOString();
      else if (type !== "checkbox") options[name] = value;
      else if (field.checked) options[name] = value === "true";
    }
    return options;
  }

  #tick(checked) {
    for (const box of byId("columns").querySelectorAll("li:not([hidden]) input")) {
      box.checked = checked;
    }
    this.#edited();
  }

  #find(text) {
    for (const choice of byId("columns").children) {
      choice.hidden = !choice.textContent.toLowerCase().includes(text.toLowerCase());
    }
  }
}

function columnChoice({ name, type, comment }) {
  const box = make("input", { type: "checkbox", value: name, checked: true });
  const label = make("label", {}, box, make("span", {}, name));
  label.append(make("small", {}, format.type(type)));
  return make("li", { title: comment ?? "" }, label);
}
