// Shows openapi.json: every address with its parameters and answers.

const at = (id) => document.getElementById(id);

function element(kind, content = [], className = '') {
  const made = document.createElement(kind);
  if (className) made.className = className;
  made.append(...[content].flat());
  return made;
}

function table(head, rows) {
  const made = element('table', [
    element('thead', element('tr', head.map((cell) => element('th', cell)))),
    element('tbody', rows.map((row) => element('tr', row.map((cell) => element('td', cell))))),
  ]);
  return element('div', made, 'scroll');
}

function spellSchema(schema) {
  if (schema.$ref) return schema.$ref.split('/').pop();
  if (schema.enum) return schema.enum.join(' | ');
  if (schema.anyOf) return schema.anyOf.map(spellSchema).join(' or ');
  if (schema.type === 'array') return `list of ${spellSchema(schema.items ?? {})}`;
  const bounds = [];
  if (schema.minimum !== undefined) bounds.push(`from ${schema.minimum}`);
  if (schema.exclusiveMinimum !== undefined) bounds.push(`above ${schema.exclusiveMinimum}`);
  if (schema.maximum !== undefined) bounds.push(`to ${schema.maximum}`);
  const preset = schema.default === undefined ? '' : `, default ${schema.default}`;
  return `${schema.format === 'binary' ? 'file' : schema.type ?? 'anything'}${bounds.length ? ` ${bounds.join(' ')}` : ''}${preset}`;
}

function describe(path, method, operation) {
  const parameters = (operation.parameters ?? []).map((one) => [
    element('code', one.name), spellSchema(one.schema), one.description ?? (one.in === 'path' ? 'part of the address' : ''),
  ]);
  const files = Object.entries(operation.requestBody?.content?.['multipart/form-data']?.schema.properties ?? {})
    .filter(([, schema]) => schema.format === 'binary')
    .map(([name, schema]) => [element('code', name), 'file in a form', schema.description]);
  const answers = Object.entries(operation.responses).map(([status, answer]) => [
    element('code', status), Object.keys(answer.content ?? {}).join(', '), answer.description,
  ]);
  const inside = element('div', [], 'inside');
  if (operation.description) inside.append(element('p', operation.description, 'note'));
  if (files.length) inside.append(element('p', 'The body is a form (multipart/form-data), or the image itself with the parameters in the address.', 'note'));
  if (files.length + parameters.length) inside.append(table(['Parameter', 'Type', ''], [...files, ...parameters]));
  inside.append(table(['Answer', 'Type', ''], answers));
  const summary = element('summary', [
    element('span', method.toUpperCase(), `method ${method}`), element('code', path), element('span', operation.summary, 'note'),
  ]);
  return element('details', [summary, inside], 'operation');
}

async function main() {
  const document_ = await (await fetch('/openapi.json')).json();
  at('description').textContent = document_.info.description;
  const token = document_.security ? " -H 'Authorization: Bearer TOKEN'" : '';
  at('example').textContent = `curl${token} -F image=@photo.jpg -F strength=0.8 -OJ ${location.origin}/api/v1/upscale\n`
    + `curl${token} --data-binary @photo.jpg '${location.origin}/api/v1/upscale?name=photo.jpg' -o photo_x4.jpg`;
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, operation] of Object.entries(methods)) at('operations').append(describe(path, method, operation));
  }
  for (const [name, schema] of Object.entries(document_.components.schemas)) {
    const rows = Object.entries(schema.properties).map(([field, value]) => [
      element('code', field), spellSchema(value), value.description ?? '',
    ]);
    const summary = element('summary', [element('code', name), element('span', schema.description ?? '', 'note')]);
    at('schemas').append(element('details', [summary, element('div', table(['Field', 'Type', ''], rows), 'inside')], 'operation'));
  }
  document.documentElement.dataset.ready = 'true';
}

main();
