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
    bindModels(at('up-model'), at('up-model-note'), offer.models, (models) => {
      const standard = models.find((model) => model.default) ?? models[0];
      fillSegments(at('up-scale'), 'scale', models.map(({ scale }) => [scale, `${scale}×`]), standard.scale);
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

  /** Shows the sizes before and after, if they are known. */
  describe() {
    const line = at('up-facts').querySelector('.sizes');
    if (!this.file) return;
    const scale = Number(new FormData(this.form).get('scale'));
    const parts = [spellBytes(this.file.size)];
    if (this.size) {
      const { width, height } = this.size;
      parts.push(`${width} × ${height} → ${width * scale} × ${height * scale} pixels`);
    }
    line.textContent = parts.join(', ');
  }

  async start() {
    if (!this.file || this.run.active) return;
    this.alert.clear();
    const data = new FormData();
    for (const [name, value] of new FormData(this.form)) if (value !== '') data.append(name, value);
    if (at('up-like').files.length) data.append('like', at('up-like').files[0]);
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
    at('up-summary').textContent = `${made.name}: ${made.width} × ${made.height} pixels${frames}, ${made.model} at ${made.scale}× in ${spell(made.seconds)}. `
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
