"use strict";
// Renders /openapi.json. Everything from the document is set as text, never as markup.

const el = (tag, attributes, ...children) => {
  const node = document.createElement(tag);
  Object.assign(node, attributes);
  node.append(...children.filter((child) => child !== null));
  return node;
};

const named = (schema) => (schema && schema.$ref ? schema.$ref.split("/").pop() : null);

const shape = (schema) => {
  if (!schema) return "any";
  if (schema.$ref) return named(schema);
  if (schema.oneOf || schema.anyOf) return (schema.oneOf || schema.anyOf).map(shape).join(" | ");
  if (schema.enum) return schema.enum.map((word) => JSON.stringify(word)).join(" | ");
  const type = [].concat(schema.type || "object").join(" | ");
  if (schema.items) return `[${shape(schema.items)}]`;
  if (schema.additionalProperties) return `{string: ${shape(schema.additionalProperties)}}`;
  return schema.format ? `${type} (${schema.format})` : type;
};

const fields = (schema) => {
  const rows = Object.entries(schema.properties || {}).map(([name, field]) =>
    el("tr", {},
      el("td", {}, el("code", {}, name), (schema.required || []).includes(name) ? " *" : ""),
      el("td", {}, el("code", {}, shape(field))),
      el("td", {}, field.description || "")));
  return rows.length ? el("table", {}, ...rows) : el("code", {}, shape(schema));
};

const body = (content, schemas) => {
  const parts = Object.entries(content || {}).map(([media, { schema }]) => {
    const known = named(schema) && schemas[named(schema)];
    return el("div", {},
      el("p", { className: "note" }, `${media}: `, el("code", {}, shape(schema))),
      known ? fields(known) : null);
  });
  return el("div", {}, ...parts);
};

const parameters = (list) => {
  if (!list || !list.length) return null;
  const rows = list.map((one) =>
    el("tr", {},
      el("td", {}, el("code", {}, one.name), one.required ? " *" : ""),
      el("td", {}, one.in),
      el("td", {}, el("code", {}, shape(one.schema))),
      el("td", {}, one.description || "")));
  return el("div", {}, el("h4", {}, "Parameters"), el("table", {}, ...rows));
};

const role = (operation) => {
  const scopes = (operation.security || [{}])[0].token;
  return scopes ? `role: ${scopes.join(", ")}` : "open";
};

const route = (path, verb, operation, schemas) => {
  const answers = Object.entries(operation.responses || {}).map(([status, answer]) =>
    el("div", {}, el("h4", {}, `${status} ${answer.description || ""}`), body(answer.content, schemas)));
  const details = el("details", {},
    el("summary", {},
      el("span", { className: `verb ${verb}` }, verb),
      el("code", {}, path), " ", operation.summary || "",
      el("span", { className: "role" }, role(operation))),
    el("div", {},
      el("p", {}, operation.description || ""),
      parameters(operation.parameters),
      operation.requestBody ? el("h4", {}, "Body") : null,
      operation.requestBody ? body(operation.requestBody.content, schemas) : null,
      ...answers));
  details.dataset.find = `${verb} ${path} ${operation.summary || ""}`.toLowerCase();
  return details;
};

const show = (doc) => {
  document.getElementById("about").textContent = `${doc.info.description || ""} Version ${doc.info.version}.`;
  const schemas = (doc.components || {}).schemas || {};
  const groups = new Map();
  for (const [path, item] of Object.entries(doc.paths)) {
    for (const [verb, operation] of Object.entries(item)) {
      if (!operation || !operation.responses) continue;
      const tag = (operation.tags || ["other"])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(route(path, verb, operation, schemas));
    }
  }
  const main = document.getElementById("routes");
  main.replaceChildren();
  for (const [tag, routes] of groups) main.append(el("section", {}, el("h2", {}, tag), ...routes));
  document.getElementById("find").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase();
    for (const one of main.querySelectorAll("details")) one.hidden = !one.dataset.find.includes(words);
  });
};

fetch("/openapi.json")
  .then((answer) => answer.json())
  .then(show)
  .catch((error) => {
    document.getElementById("routes").textContent = `The document could not be read: ${error}`;
  });
