// The tab that upscales an image.

import { Alert, Failure, JobRun, announce, sentence, spell, spellBytes } from './api.js';
import { bindModels, bindRange, fillSegments } from './controls.js';
import { Viewer } from './viewer.js';

const at = (id) => document.getElementById(id);

export class UpscaleTab {
  constructor(offer) {
    this.offer = offer;
    this.form = at('up-form');
    this.alert = new Alert(at('up-alert'));
    this.run = new JobRun(at('up-job'));
    this.viewer = new Viewer(at('up-viewer'));
    const named = offer.models.map((model) => ({ ...model, name: model.setting ?? model.name }));
    const auto = offer.models.filter(({ setting }) => setting)
      .map((model) => ({ ...model, name: 'auto', purpose: 'general, iso or photo, as fits the image', parameters: null, default: false }));
    bindModels(at('up-model'), at('up-model-note'), [...named, ...auto], (models) => {
      const standard = models.find((model) => model.default) ?? models[0];
      const scales = [...new Set(models.map(({ scale }) => scale))].sort();
      fillSegments(at('up-scale'), 'scale', [1, ...scales].map((scale) => [scale, `${scale}×`]), standard.scale);
      this.describe();
    });
    bindRange(at('up-strength'));
    const once = { jpeg: 'jpg', tif: 'tiff', apng: 'png' };
    const formats = offer.formats.filter((name) => !once[name]);
    at('up-format').append(...formats.map((name) => new Option(name.toUpperCase(), name)));
    const { upload_bytes: bytes, pixels } = offer.limits;
    at('up-limits').textContent = `PNG, JPEG, WebP, TIFF, GIF, BMP${offer.formats.includes('avif') ? ', AVIF' : ''}; `
      + `up to ${pixels / 1e6} megapixels and ${Math.round(bytes / 1e6)} MB. It stays on this server.`;
    this.listen();
  }

  listen() {
    at('up-drop').addEventListener('click', () => at('up-file').click());
    at('up-choose').addEventListener('click', (event) => { event.stopPropagation(); at('up-file').click(); });
    at('up-file').addEventListener('click', (event) => event.stopPropagation());
    at('up-other').addEventListener('click', () => at('up-file').click());
    at('up-file').addEventListener('change', () => {
      if (at('up-file').files.length) this.take([...at('up-file').files]);
      at('up-file').value = '';
    });
    at('up-size-kind').addEventListener('change', () => this.chooseSize());
    this.form.addEventListener('input', () => this.describe());
    this.form.addEventListener('change', () => this.describe());
    this.form.addEventListener('submit', (event) => { event.preventDefault(); this.start(); });
  }

  /** Uses the first of some files. */
  async take(files) {
    if (this.run.active) this.run.cancel();
    const [file] = files;
    this.alert.clear();
    const { upload_bytes: most } = this.offer.limits;
    if (!file.size) return this.alert.show(`${file.name} is empty.`);
    if (file.size > most) return this.alert.show(`${file.name} has ${spellBytes(file.size)}, the limit is ${spellBytes(most)}.`);
    if (this.address) URL.revokeObjectURL(this.address);
    this.file = file;
    this.address = URL.createObjectURL(file);
    this.size = null;
    at('up-drop').hidden = true;
    at('up-viewer').hidden = false;
    at('up-facts').hidden = false;
    at('up-download').hidden = true;
    at('up-summary').hidden = true;
    at('up-notes').hidden = true;
    at('up-start').disabled = false;
    at('up-facts').querySelector('.name').textContent = file.name || 'image';
    if (files.length > 1) this.alert.show('Only the first image is used. `dasr upscale` processes folders.');
    try {
      await this.viewer.show({ src: this.address, label: 'Before' });
      this.size = { ...this.viewer.size };
    } catch {
      this.viewer.say('This browser cannot show the image; its result will be shown.');
    }
    this.describe();
    return undefined;
  }

  /** Names the field of the size, which takes the place of the scale. */
  chooseSize() {
    const kind = at('up-size-kind').value;
    at('up-size').name = kind;
    at('up-size').hidden = !kind;
    at('up-size').required = Boolean(kind);
    at('up-size').placeholder = kind === 'to' ? '3840x2160' : '3840';
    at('up-scale').parentElement.disabled = Boolean(kind);
  }

  /** Width and height of the result for the settings; null if the size cannot be read. */
  resize({ width, height }) {
    const kind = at('up-size-kind').value;
    if (!kind) {
      const scale = Number(new FormData(this.form).get('scale'));
      return [width * scale, height * scale];
    }
    const [first, second] = at('up-size').value.split(/[x×]/i).map(Number);
    const long = Math.max(width, height);
    const ratio = { to: Math.min(first / width, second / height), long_side: first / long, short_side: first / Math.min(width, height) }[kind];
    return ratio > 0 ? [Math.round(width * ratio), Math.round(height * ratio)] : null;
  }

  /** Shows the sizes before and after, if they are known. */
  describe() {
    const line = at('up-facts').querySelector('.sizes');
    if (!this.file) return;
    const parts = [spellBytes(this.file.size)];
    const result = this.size && this.resize(this.size);
    if (result) parts.push(`${this.size.width} × ${this.size.height} → ${result[0]} × ${result[1]} pixels`);
    line.textContent = parts.join(', ');
  }

  async start() {
    if (!this.file || this.run.active) return;
    this.alert.clear();
    const data = new FormData();
    for (const [name, value] of new FormData(this.form)) if (value !== '') data.append(name, value);
    for (const name of ['reference', 'mask']) {
      const [other] = at(`up-${name}`).files;
      if (other) data.append(name, other);
    }
    data.append('image', this.file, this.file.name || 'image.png');
    at('up-start').disabled = true;
    at('up-download').hidden = true;
    at('up-summary').hidden = true;
    at('up-notes').hidden = true;
    announce('Upscaling has started.');
    try {
      const status = await this.run.run('api/v1/jobs', data);
      if (status) await this.finish(status);
      else announce('Cancelled.');
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.alert.show(error.message);
    } finally {
      at('up-start').disabled = false;
    }
  }

  async finish({ id, upscale: made }) {
    const base = `api/v1/jobs/${id}`;
    const before = this.size ? this.address : `${base}/images/input`;
    const link = at('up-download');
    link.href = `${base}/result`;
    link.textContent = `Download (${spellBytes(made.bytes)})`;
    link.title = made.name;
    link.hidden = false;
    const frames = made.frames > 1 ? `, ${made.frames} frames` : '';
    at('up-summary').hidden = false;
    at('up-summary').textContent = `${made.name}: ${made.width} × ${made.height} pixels${frames}, ${made.model} at ${made.scale}× (${made.reason}) in ${spell(made.seconds)}. `
      + `It is kept for ${spell(this.offer.limits.keep_seconds)}.`;
    at('up-notes').hidden = !made.notes.length;
    at('up-notes').replaceChildren(...made.notes.map((note) => {
      const item = document.createElement('li');
      item.textContent = sentence(note);
      return item;
    }));
    announce(sentence(`done: ${[made.name, ...made.notes].join('; ')}`));
    try {
      await this.viewer.show({ src: before, label: 'Before' }, { src: `${base}/images/result`, label: 'After' });
    } catch {
      this.viewer.say('The result cannot be shown here; download it.');
    }
  }
}
