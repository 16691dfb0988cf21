// Shows /openapi.json, to read.

import { byId, make } from "./dom.js";

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.map(typeOf).join(" | ");
  if (schema.type === "array") return `[${typeOf(schema.items)}]`;
  return schema.format ?? schema.type ?? "anything";
}

/** A table of *rows*: an id or "", what it is called, and the cells beside that. */
function table(label, rows) {
  const lines = rows.map(([id, name, ...cells]) =>
    make(
      "tr",
      { id },
      make("th", { scope: "row" }, name),
      ...cells.map((text) => make("td", {}, text ?? "")),
    ),
  );
  return make(
    "div",
    { className: "scroll", tabIndex: 0, role: "group", ariaLabel: label },
    make("table", {}, make("tbody", {}, ...lines)),
  );
}

function entry(id, heading, text, rows) {
  const contents = [make("h3", {}, ...heading), make("p", {}, text ?? "")];
  if (rows.length) contents.push(table(id, rows));
  return make("section", { id, className: "panel entry" }, ...contents);
}

function operation(path, method, one) {
  const body = one.requestBody?.content["application/json"].schema;
  const badge = make("span", { className: "method" }, method.toUpperCase());
  badge.dataset.method = method;
  return entry(one.operationId, [badge, path], one.summary, [
    ...(body ? [["", "body", typeOf(body), ""]] : []),
    ...(one.parameters ?? []).map((p) => ["", p.name, typeOf(p.schema), p.description]),
    ...Object.entries(one.responses).map(([status, told]) => [
      "",
      status,
      Object.values(told.content ?? {})
        .map((c) => typeOf(c.schema))
        .join(),
      told.description,
    ]),
  ]);
}

function shape(name, { description, properties = {} }) {
  const fields = Object.entries(properties);
  const lines = fields.map(([field, schema]) => ["", field, typeOf(schema), schema.description]);
  return entry(name, [name], description, lines);
}

function link(id, text) {
  return make("a", { href: `#${id}` }, text);
}

const { paths, components } = await (await fetch("/openapi.json")).json();
const contents = [make("strong", {}, "Calls")];
for (const [path, methods] of Object.entries(paths)) {
  for (const [method, one] of Object.entries(methods)) {
    if (method === "parameters") continue;
    byId("operations").append(operation(path, method, one));
    contents.push(link(one.operationId, `${method.toUpperCase()} ${path}`));
  }
}
// A problem's type is the address of its line here.
const types = components.schemas.ProblemDetails.properties.type["x-titles"];
const problems = Object.entries(types).map(([type, title]) => [type.split("#")[1], type, title]);
byId("problems").append(table("Problems", problems));
contents.push(make("strong", {}, "Shapes"));
for (const [name, schema] of Object.entries(components.schemas)) {
  byId("shapes").append(shape(name, schema));
  contents.push(link(name, name));
}
byId("contents").replaceChildren(...contents);
byId("reading").remove();
if (location.hash) location.replace(location.hash); // what it names is only here now
