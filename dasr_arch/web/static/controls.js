// Parts of both forms: models, scales, sliders.

/** Fills a select with model names, and shows the purpose of the chosen one. */
export function bindModels(select, note, models, changed = () => {}) {
  const names = [...new Set(models.map((model) => model.name))];
  select.replaceChildren(...names.map((name) => new Option(name, name)));
  select.value = models.find((model) => model.default)?.name ?? names[0];
  const update = () => {
    const entry = models.find((model) => model.name === select.value);
    const parameters = entry.parameters ? `, ${(entry.parameters / 1e6).toFixed(1)} million parameters` : '';
    note.textContent = `${entry.purpose}${parameters}`.replace(/^./, (sign) => sign.toUpperCase());
    changed(models.filter((model) => model.name === select.value));
  };
  select.addEventListener('change', update);
  update();
}

/** Radio buttons as segments; entries are [value, text]. */
export function fillSegments(box, name, entries, chosen) {
  box.replaceChildren(...entries.map(([value, text]) => {
    const label = document.createElement('label');
    const input = document.createElement('input');
    Object.assign(input, { type: 'radio', name, value, checked: String(value) === String(chosen) });
    const span = document.createElement('span');
    span.textContent = text;
    label.append(input, span);
    return label;
  }));
}

/** Shows a slider's value beside its label. */
export function bindRange(input, format = (value) => value.toFixed(2)) {
  const output = input.parentElement.querySelector('output');
  const update = () => {
    output.textContent = format(Number(input.value));
    input.setAttribute('aria-valuetext', output.textContent);
  };
  input.addEventListener('input', update);
  update();
}

/** The files that were dropped or pasted. */
export function filesOf(transfer) {
  return [...(transfer?.files ?? [])];
}
