// The page: tabs, and files dropped or pasted anywhere.

import { getJson } from './api.js';
import { filesOf } from './controls.js';
import { PlaygroundTab } from './playground.js';
import { UpscaleTab } from './upscale.js';

const at = (id) => document.getElementById(id);
const tabs = ['upscale', 'playground'];

async function main() {
  let offer;
  try {
    offer = await getJson('api/v1/models');
  } catch (error) {
    const alert = at('up-alert');
    alert.querySelector('span').textContent = error.message;
    alert.hidden = false;
    return;
  }
  at('device').textContent = offer.device === 'cpu' ? 'on the CPU' : `on ${offer.device}`;
  const parts = { upscale: new UpscaleTab(offer), playground: new PlaygroundTab(offer) };
  let current = 'upscale';

  const select = (name, focus = false) => {
    current = name;
    for (const other of tabs) {
      const chosen = other === name;
      at(`tab-${other}`).setAttribute('aria-selected', String(chosen));
      at(`tab-${other}`).tabIndex = chosen ? 0 : -1;
      at(`panel-${other}`).hidden = !chosen;
    }
    if (focus) at(`tab-${name}`).focus();
    if (name === 'playground') parts.playground.open();
    history.replaceState(null, '', name === 'upscale' ? location.pathname : `#${name}`);
  };
  for (const name of tabs) {
    at(`tab-${name}`).addEventListener('click', () => select(name));
    at(`tab-${name}`).addEventListener('keydown', (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) select(tabs[(tabs.indexOf(name) + step + tabs.length) % tabs.length], true);
    });
  }
  addEventListener('hashchange', () => select(tabs.includes(location.hash.slice(1)) ? location.hash.slice(1) : 'upscale'));
  if (location.hash === '#playground') select('playground');

  let depth = 0;
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');
  addEventListener('dragenter', (event) => { if (hasFiles(event)) { depth += 1; at('veil').hidden = false; } });
  addEventListener('dragleave', () => { depth = Math.max(0, depth - 1); if (!depth) at('veil').hidden = true; });
  addEventListener('dragover', (event) => { if (hasFiles(event)) event.preventDefault(); });
  addEventListener('drop', (event) => {
    event.preventDefault();
    depth = 0;
    at('veil').hidden = true;
    const files = filesOf(event.dataTransfer);
    const below = document.elementsFromPoint(event.clientX, event.clientY);
    const field = below.find((part) => part.matches('input[type=file]'));  // of a mask or reference
    if (files.length && field) {
      field.files = event.dataTransfer.files;
      field.dispatchEvent(new Event('change', { bubbles: true }));
    } else if (files.length) parts[current].take(files);
  });
  addEventListener('paste', (event) => {
    const files = filesOf(event.clipboardData);
    if (files.length) { event.preventDefault(); parts[current].take(files); }
  });
  document.documentElement.dataset.ready = 'true';
}

main();
