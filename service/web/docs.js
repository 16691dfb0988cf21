// Shows /openapi.json.  Everything is put in as text, nothing as markup.

const make = (name, text = "", ...inside) => {
  const element = document.createElement(name);
  element.textContent = text;
  element.append(...inside);
  return element;
};

const typeOf = (schema) => {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" | ");
  if (schema.type === "array") return `[${typeOf(schema.items)}]`;
  return schema.format ?? schema.type ?? "anything";
};

const table = (rows) => {
  const body = make("tbody");
  for (const [name, ...rest] of rows) {
    const head = make("th", name);
    head.scope = "row";
    body.append(make("tr", "", head, ...rest.map((text) => make("td", text ?? ""))));
  }
  return make("table", "", body);
};

const answer = await fetch("/openapi.json");
const { paths, components } = await answer.json();
const operations = document.getElementById("operations");
operations.textContent = "";
for (const [path, methods] of Object.entries(paths)) {
  for (const [method, one] of Object.entries(methods)) {
    if (method === "parameters") continue;
    const body = one.requestBody?.content["application/json"].schema;
    operations.append(
      make("h3", `${method.toUpperCase()} ${path}`),
      make("p", one.summary),
      table([
        ...(body ? [["body", typeOf(body), ""]] : []),
        ...(one.parameters ?? []).map((p) => [p.name, typeOf(p.schema), p.description]),
        ...Object.entries(one.responses).map(([status, told]) => [
          status,
          Object.values(told.content ?? {}).map((c) => typeOf(c.schema)).join(),
          told.description,
        ]),
      ]),
    );
  }
}
const shapes = document.getElementById("shapes");
for (const [name, schema] of Object.entries(components.schemas)) {
  shapes.append(
    make("h3", name),
    make("p", schema.description ?? ""),
    table(
      Object.entries(schema.properties ?? {}).map(([field, s]) => [
        field,
        typeOf(s),
        s.description,
      ]),
    ),
  );
}
