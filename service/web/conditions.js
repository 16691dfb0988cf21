// Lines of a column, what about it, and perhaps values: the filters, and the order.

import { byId, make, stamp } from "./dom.js";

const LISTS = ["in", "notIn"];
const WITHOUT_VALUE = ["isNull", "notNull"];

export class Conditions {
  #columns = [];

  /** *kind* is "filter" or "order"; *edited* hears of every change of the lines. */
  constructor(kind, edited) {
    this.kind = kind;
    this.edited = edited;
    this.element = byId(`${kind}s`);
    this.button = byId(`add-${kind}`);
    this.button.addEventListener("click", () => this.#add());
  }

  /** Begin anew, for a source with *columns*. */
  reset(columns) {
    this.#columns = columns;
    this.element.replaceChildren();
  }

  /** [{ column, op, value }, …] */
  values() {
    return [...this.element.children].map((line) => {
      const [column, op] = [...line.querySelectorAll("select")].map(({ value }) => value);
      const given = [...line.querySelectorAll("input, textarea")].map(({ value }) => value);
      if (LISTS.includes(op)) return { column, op, value: given[0].split("\n").filter(Boolean) };
      if (op === "between") return { column, op, value: given };
      return given.length ? { column, op, value: given[0] } : { column, op };
    });
  }

  #add() {
    const [line, { column, op, values, drop }] = stamp(`${this.kind}-template`);
    column.append(...this.#columns.map(({ name }) => make("option", {}, name)));
    drop.addEventListener("click", () => {
      line.remove();
      this.button.focus();
      this.edited();
    });
    if (values) {
      const fit = () => values.replaceChildren(...fieldsFor(op.value));
      op.addEventListener("change", fit);
      fit();
    }
    this.element.append(line);
    column.focus();
    this.edited();
  }
}

function fieldsFor(op) {
  const field = (ariaLabel) => make("input", { ariaLabel, autocomplete: "off" });
  if (WITHOUT_VALUE.includes(op)) return [];
  if (op === "between") return [field("From"), field("To")];
  if (!LISTS.includes(op)) return [field("Value")];
  const placeholder = "one a line";
  return [make("textarea", { rows: 3, placeholder, ariaLabel: "Values, one a line" })];
}
