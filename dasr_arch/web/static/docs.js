// The routes and parameters in openapi.json as a list.

const at = (id) => document.getElementById(id);

function element(kind, ...content) {
  const made = document.createElement(kind);
  made.append(...content);
  return made;
}

function spellType({ anyOf, enum: choices, type, minimum, exclusiveMinimum, maximum, default: preset }) {
  if (choices) return `${choices.join(' or ')}, default ${preset}`;
  if (anyOf) return spellType(anyOf[0]);
  const low = minimum === undefined ? `above ${exclusiveMinimum}, at most` : `from ${minimum} to`;
  return [type, maximum === undefined ? '' : ` ${low} ${maximum}`, preset === undefined ? '' : `, default ${preset}`].join('');
}

function listParameters(operation) {
  const files = Object.entries(operation.requestBody?.content['multipart/form-data'].schema.properties ?? {})
    .filter(([, { format }]) => format === 'binary')
    .map(([name, { description }]) => [name, 'file of a form', description]);
  const parameters = (operation.parameters ?? [])
    .map(({ name, in: place, schema, description }) => [name, spellType(schema), description ?? `in the ${place}`]);
  return [...files, ...parameters].map(([name, ...texts]) => element('tr', element('td', element('code', name)), ...texts.map((text) => element('td', text))));
}

function describe(path, method, operation) {
  const label = element('span', method.toUpperCase());
  label.className = `method ${method}`;
  const [first, ...others] = operation.description.split('\n\n');
  const note = element('span', operation.deprecated ? `Deprecated. ${first}` : first);
  note.className = 'note';
  const rows = listParameters(operation);
  const inside = element('div', ...others.map((text) => element('p', text)));
  if (rows.length) inside.append(element('table', ...rows));
  inside.className = 'inside scroll';
  const details = element('details', element('summary', label, element('code', path), note), inside);
  details.className = 'operation';
  return details;
}

const { info, paths } = await (await fetch('openapi.json')).json();
at('description').textContent = info.description;
at('example').textContent = `curl -F image=@photo.jpg -F strength=0.8 -OJ ${new URL('api/v1/upscale', location.href)}`;
for (const [path, methods] of Object.entries(paths)) {
  for (const [method, operation] of Object.entries(methods)) at('operations').append(describe(path, method, operation));
}
document.documentElement.dataset.ready = 'true';
