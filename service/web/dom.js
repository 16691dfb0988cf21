// Small helpers around the DOM.  Whatever comes from outside goes in as text:
// nothing here, or in any other module, parses markup.

export const byId = (id) => document.getElementById(id);

/** Make an element with *properties* (className, title, …), and *inside* as nodes or text. */
export function make(tag, properties = {}, ...inside) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...inside);
  return element;
}

/** Copy the template *id*; return its element, and its parts by their data-part. */
export function stamp(id) {
  const element = byId(id).content.firstElementChild.cloneNode(true);
  const parts = {};
  for (const part of element.querySelectorAll("[data-part]")) parts[part.dataset.part] = part;
  return [element, parts];
}

/** Write *text* only where it differs: most updates change little. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Say *text* to those who listen, and for a moment to those who look. */
export function announce(text, { visibly = false } = {}) {
  const announcements = byId("announcements");
  announcements.textContent = text;
  announcements.classList.remove("visible");
  if (!visibly) return;
  void announcements.offsetWidth; // begins the animation anew
  announcements.classList.add("visible");
}

export async function copy(text, told = "Copied to the clipboard") {
  if (navigator.clipboard) await navigator.clipboard.writeText(text);
  else copyBySelection(text); // over plain HTTP there is no clipboard API
  announce(told, { visibly: true });
}

function copyBySelection(text) {
  const field = make("textarea", { value: text, className: "unseen" });
  const focused = document.activeElement;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
  focused?.focus();
}
