// The tab that degrades a clean image and restores it.

import { Alert, Failure, JobRun, announce, getJson, spell } from './api.js';
import { bindModels, bindRange, fillSegments } from './controls.js';
import { drawMap } from './map.js';
import { Viewer } from './viewer.js';

const at = (id) => document.getElementById(id);
const NAMES = { lq: 'Low resolution', bicubic: 'Bicubic', sr: 'DASR', hr: 'Original' };
const SHORT = { lq: 'LR', bicubic: 'Bicubic', sr: 'DASR', hr: 'Original' };
const FIRST = 'astronaut';

export class PlaygroundTab {
  constructor(offer) {
    this.form = at('pl-form');
    this.alert = new Alert(at('pl-alert'));
    this.run = new JobRun(at('pl-job'));
    this.viewer = new Viewer(at('pl-viewer'));
    this.file = null;
    bindModels(at('pl-model'), at('pl-model-note'), offer.models, (models) => {
      this.entry = models.find((model) => model.default) ?? models[0];
      this.preview();
    });
    const pixels = (value) => `${value.toFixed(1)} px`;
    for (const id of ['pl-width', 'pl-axis1', 'pl-axis2']) bindRange(at(id), pixels);
    bindRange(at('pl-theta'), (value) => `${value}°`);
    bindRange(at('pl-noise'), (value) => String(value));
    bindRange(at('pl-strength'));
    for (const [id, chosen] of [['pl-left', 'bicubic'], ['pl-right', 'sr']]) {
      fillSegments(at(id), id, Object.entries(SHORT), chosen);
      at(id).addEventListener('change', () => this.compare(true));
    }
    this.form.addEventListener('input', () => this.preview());
    this.form.addEventListener('submit', (event) => { event.preventDefault(); this.start(); });
    at('pl-choose').addEventListener('click', () => at('pl-file').click());
    at('pl-file').addEventListener('change', () => {
      if (at('pl-file').files.length) this.take([...at('pl-file').files]);
      at('pl-file').value = '';
    });
    this.preview();
  }

  /** Fetches the sample images when the tab is first opened. */
  async open() {
    if (this.opened) return;
    this.opened = true;
    try {
      const { samples } = await getJson('api/v1/samples');
      at('pl-samples').replaceChildren(...samples.map((sample) => this.makeSample(sample)));
      if (!samples.length) at('pl-own').textContent = 'No sample images are installed here.';
    } catch (error) {
      this.opened = false;
      this.alert.show(error.message);
    }
  }

  makeSample({ name, content, licence }) {
    const label = document.createElement('label');
    label.title = `${content} (${licence})`;
    const input = document.createElement('input');
    Object.assign(input, { type: 'radio', name: 'sample', value: name, checked: name === FIRST && !this.file });
    input.addEventListener('change', () => { this.file = null; at('pl-own').textContent = ''; });
    const image = document.createElement('img');
    Object.assign(image, { src: `api/v1/samples/${encodeURIComponent(name)}`, alt: content, width: 160, height: 160 });
    label.append(input, image);
    return label;
  }

  /** Uses an image of the user. */
  take([file]) {
    this.file = file;
    for (const input of this.form.querySelectorAll('[name="sample"]')) input.checked = false;
    at('pl-own').textContent = file.name || 'image';
  }

  /** Shows the sliders of the chosen blur, and its kernel. */
  preview() {
    const blur = new FormData(this.form).get('blur');
    for (const kind of ['iso', 'aniso']) {
      for (const part of this.form.querySelectorAll(`.${kind}`)) part.hidden = kind !== blur;
    }
    const value = (id) => Number(at(id).value);
    const [first, second, angle] = blur === 'iso' ? [value('pl-width'), value('pl-width'), 0]
      : [value('pl-axis1'), value('pl-axis2'), (value('pl-theta') * Math.PI) / 180];
    drawKernel(at('pl-preview'), gaussian(first, second, angle));
    at('pl-hint').hidden = this.entry.setting !== 'iso' || (blur === 'iso' && !value('pl-noise'));
  }

  async start() {
    if (this.run.active) return;
    this.alert.clear();
    const data = new FormData();
    const given = new FormData(this.form);
    const unused = given.get('blur') === 'iso' ? ['axis_1', 'axis_2', 'theta'] : ['width'];
    for (const [name, value] of given) if (!unused.includes(name)) data.append(name, value);
    data.append('model', at('pl-model').value);
    data.append('scale', this.entry.scale);
    if (this.file) data.append('image', this.file, this.file.name || 'image.png');
    at('pl-start').disabled = true;
    announce('The experiment has started.');
    try {
      const status = await this.run.run('api/v1/playground', data);
      if (status) await this.finish(status);
      else announce('Cancelled.');
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.alert.show(error.message);
    } finally {
      at('pl-start').disabled = false;
    }
  }

  async finish({ id, playground: made }) {
    this.base = `api/v1/jobs/${id}/images`;
    at('pl-intro').hidden = true;
    at('pl-results').hidden = false;
    at('pl-cards').hidden = false;
    const [bicubic, sr] = [made.psnr_bicubic, made.psnr_sr];
    at('pl-bicubic').textContent = bicubic === null ? '∞' : bicubic.toFixed(2);
    at('pl-sr').textContent = sr === null ? '∞' : sr.toFixed(2);
    const gain = (sr ?? Infinity) - (bicubic ?? Infinity);
    at('pl-gain').textContent = Number.isFinite(gain)
      ? `${gain >= 0 ? '+' : '−'}${Math.abs(gain).toFixed(2)} dB ${gain >= 0 ? 'above' : 'below'} Bicubic` : '';
    at('pl-sr').parentElement.classList.toggle('best', gain >= 0);
    at('pl-bicubic').parentElement.classList.toggle('best', gain < 0);
    const cut = made.cropped ? 'The middle of the image, ' : '';
    at('pl-note').textContent = `${cut}${made.width} × ${made.height} pixels, ${made.scale}×; ${made.model}, ${spell(made.seconds)}.`;
    at('pl-kernel-label').textContent = made.label;
    drawKernel(at('pl-kernel'), made.kernel);
    at('pl-lq-label').textContent = `${made.width / made.scale} × ${made.height / made.scale} pixels`;
    at('pl-lq').src = `${this.base}/lq`;
    at('pl-map').replaceChildren(...drawMap(made.map, made.scale));
    at('pl-nearest').textContent = `Nearest known degradations: ${made.map.nearest.join('; ')}. The mean representation of each image over all known `
      + `degradations is subtracted; the axes explain ${Math.round(100 * made.map.share)} % of the variance.`;
    announce(`Done: Bicubic ${at('pl-bicubic').textContent} dB, DASR ${at('pl-sr').textContent} dB.`);
    await this.compare(false);
  }

  async compare(keep) {
    if (!this.base) return;
    const side = (id) => this.form.ownerDocument.querySelector(`[name="${id}"]:checked`).value;
    const image = (name) => ({ src: `${this.base}/${name}`, label: NAMES[name] });
    try {
      await this.viewer.show(image(side('pl-left')), image(side('pl-right')), keep);
    } catch {
      this.viewer.say('The images have expired; run the experiment again.');
    }
  }
}

/** A Gaussian kernel of 21 x 21 numbers, the same as on the server; a width of 0 is a single dot. */
export function gaussian(first, second, angle, size = 21) {
  const middle = (size - 1) / 2;
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const rows = Array.from({ length: size }, (_, row) => Array.from({ length: size }, (__, column) => {
    const [x, y] = [column - middle, row - middle];
    if (!first || !second) return x === 0 && y === 0 ? 1 : 0;
    const [along, across] = [cos * x + sin * y, -sin * x + cos * y];
    return Math.exp(-0.5 * ((along / first) ** 2 + (across / second) ** 2));
  }));
  const sum = rows.flat().reduce((a, b) => a + b, 0);
  return rows.map((row) => row.map((value) => value / sum));
}

function drawKernel(canvas, rows) {
  const context = canvas.getContext('2d');
  const image = context.createImageData(rows.length, rows.length);
  const most = Math.max(...rows.flat());
  rows.flat().forEach((value, index) => {
    const level = Math.round(255 * (value / most) ** 0.7);
    image.data.set([level, level, Math.min(255, level + 24), 255], 4 * index);
  });
  context.putImageData(image, 0, 0);
}
