// What an export would be: the SELECT, its columns, the first rows; or why not.

import * as api from "./api.js";
import { byId, make, say } from "./dom.js";
import * as format from "./format.js";

const AROUND = 40; // characters on each side of an error's place
const NUMBER = /^(smallint|integer|bigint|numeric|real|double precision)/;

export class Preview {
  #running = new AbortController();

  constructor() {
    this.element = byId("preview");
  }

  /** Ask for the preview of *body*, and show it unless a later one was asked for. */
  async show(body) {
    this.#running.abort();
    this.#running = new AbortController();
    const { signal } = this.#running;
    this.element.setAttribute("aria-busy", "true");
    try {
      const found = await api.preview(body, signal);
      if (signal.aborted) return;
      this.#show(found);
    } catch (problem) {
      if (signal.aborted) return;
      this.refuse(problem);
    }
    this.element.removeAttribute("aria-busy");
  }

  /** Say that what is shown is no longer what is written. */
  outdated() {
    this.#running.abort();
    this.element.removeAttribute("aria-busy");
    this.element.dataset.state = "outdated";
    say(byId("estimate"), "Press Preview to see its columns and first rows.");
  }

  get refused() {
    return this.element.dataset.state === "refused";
  }

  #show({ select, estimatedRows, columns, rows }) {
    this.element.dataset.state = "shown";
    byId("refusal").replaceChildren();
    say(byId("select"), select);
    const width = `${format.number(columns.length)} ${columns.length === 1 ? "column" : "columns"}`;
    say(byId("estimate"), `about ${format.rows(estimatedRows)}, ${width}`);
    const heads = columns.map(({ name, type }) =>
      make(
        "th",
        { scope: "col", className: NUMBER.test(type) ? "number" : "" },
        name,
        make("small", {}, format.type(type)),
      ),
    );
    const lines = rows.map((row) => make("tr", {}, ...columns.map(({ name }) => cell(row[name]))));
    byId("first-rows").replaceChildren(
      make("thead", {}, make("tr", {}, ...heads)),
      make("tbody", {}, ...lines),
    );
    byId("no-rows").hidden = rows.length > 0;
  }

  /** Show why *problem* refuses the export. */
  refuse({ message, hint, sqlstate, line, column }) {
    this.element.dataset.state = "refused";
    say(byId("estimate"), "");
    byId("refusal").replaceChildren(
      make("strong", {}, message),
      ...(line ? [make("pre", {}, excerpt(byId("query").value, line, column))] : []),
      ...(hint ? [make("p", {}, hint)] : []),
      ...(sqlstate ? [make("small", {}, `SQLSTATE ${sqlstate}`)] : []),
    );
  }
}

/** The line of *query* that is meant, and a caret below the place. */
function excerpt(query, line, column) {
  const characters = [...(query.split("\n")[line - 1] ?? "")];
  const begin = Math.max(0, column - 1 - AROUND);
  const label = `LINE ${line}: ${begin ? "..." : ""}`;
  const shown = characters.slice(begin, column - 1 + AROUND).join("");
  return `${label}${shown}\n${" ".repeat(label.length + column - 1 - begin)}^`;
}

function cell(value) {
  if (value === null || value === undefined) return make("td", { className: "null" }, "null");
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  return make("td", { className: typeof value === "number" ? "number" : "" }, text);
}
