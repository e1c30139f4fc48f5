// Comparison of two images with a movable border, zoom and pan, by mouse, touch and keyboard.

const MOST = 32;
const STEP = 1.25;

export class Viewer {
  /** Creates its elements in a box. */
  constructor(box) {
    this.root = document.createElement('div');
    this.root.className = 'viewer';
    this.root.tabIndex = 0;
    this.root.setAttribute('role', 'group');
    this.root.setAttribute('aria-label', 'Image; plus and minus zoom, arrows move, 0 fits, 1 is actual size');
    this.layers = [0, 1].map(() => {
      const layer = document.createElement('div');
      layer.className = 'layer';
      const image = document.createElement('img');
      image.draggable = false;
      layer.append(image);
      this.root.append(layer);
      return { layer, image };
    });
    this.message = add(this.root, 'div', 'message');
    this.tags = ['left', 'right'].map((side) => add(this.root, 'div', `tag ${side}`));
    this.handle = add(this.root, 'button', 'handle');
    this.handle.type = 'button';
    this.handle.setAttribute('role', 'slider');
    this.handle.setAttribute('aria-label', 'Border between the two images');
    this.handle.setAttribute('aria-valuemin', '0');
    this.handle.setAttribute('aria-valuemax', '100');
    this.toolbar = document.createElement('div');
    this.toolbar.className = 'toolbar';
    this.buttons = {};
    const zoomText = document.createElement('span');
    zoomText.className = 'zoom';
    for (const [key, text, label, action] of [
      ['out', '−', 'Zoom out', () => this.zoomBy(1 / STEP)],
      ['in', '+', 'Zoom in', () => this.zoomBy(STEP)],
      ['fit', 'Fit', 'Whole image', () => this.fit()],
      ['actual', '1:1', 'Actual size of the result', () => this.zoomTo(this.actual())],
      ['pixels', 'Pixels', 'Show pixels as squares', () => this.togglePixels()],
    ]) {
      const button = add(this.toolbar, 'button', '');
      button.type = 'button';
      button.textContent = text;
      button.title = label;
      button.setAttribute('aria-label', label);
      button.addEventListener('click', action);
      this.buttons[key] = button;
      if (key === 'out') this.toolbar.append(zoomText);
    }
    this.buttons.pixels.setAttribute('aria-pressed', 'false');
    this.zoomText = zoomText;
    const keys = add(this.toolbar, 'span', 'keys');
    keys.innerHTML = 'wheel zooms, drag moves; <kbd>+</kbd> <kbd>−</kbd> <kbd>0</kbd> <kbd>1</kbd> and arrows, too';
    box.replaceChildren(this.root, this.toolbar);
    this.split = 0.5;
    this.view = { x: 0, y: 0, zoom: 1 };
    this.size = { width: 1, height: 1 };
    this.fitted = true;
    this.pointers = new Map();
    this.listen();
  }

  /** Shows one or two images, each {src, label}; resolves when they are loaded, throws if one cannot be. */
  async show(left, right = null, keep = false) {
    const images = right ? [left, right] : [left];
    this.message.textContent = '';
    const turn = this.turn = (this.turn || 0) + 1;
    const ready = await Promise.all(images.map(({ src }) => load(src)));
    if (turn !== this.turn) return;
    this.layers.forEach(({ layer, image }, index) => {
      const there = index < images.length;
      layer.hidden = !there;
      this.tags[index].hidden = !there || !images[index].label;
      if (!there) { image.removeAttribute('src'); return; }
      image.src = images[index].src;
      image.alt = images[index].alt || images[index].label || 'the image';
      this.tags[index].textContent = images[index].label || '';
    });
    this.double = Boolean(right);
    this.handle.hidden = !this.double;
    const old = this.size;
    const largest = ready.reduce((a, b) => (b.naturalWidth > a.naturalWidth ? b : a));
    this.size = { width: largest.naturalWidth, height: largest.naturalHeight };
    if (keep && !this.fitted) {
      this.view.zoom *= old.width / this.size.width;
      this.draw();
    } else this.fit();
  }

  /** Shows a message instead of an image. */
  say(text) {
    this.turn = (this.turn || 0) + 1;
    this.message.textContent = text;
    this.layers.forEach(({ layer }) => { layer.hidden = true; });
    this.tags.forEach((tag) => { tag.hidden = true; });
    this.handle.hidden = true;
  }

  fit() {
    const { clientWidth: width, clientHeight: height } = this.root;
    if (!width) return;
    const zoom = Math.min(width / this.size.width, height / this.size.height);
    this.view = { zoom, x: (width - this.size.width * zoom) / 2, y: (height - this.size.height * zoom) / 2 };
    this.fitted = true;
    this.draw();
  }

  actual() { return 1 / (globalThis.devicePixelRatio || 1); }

  zoomBy(factor, x, y) { this.zoomTo(this.view.zoom * factor, x, y); }

  /** Zooms so that the point of the image below (x, y) stays there; by default the middle. */
  zoomTo(wanted, x = this.root.clientWidth / 2, y = this.root.clientHeight / 2) {
    const zoom = Math.min(MOST, Math.max(this.least(), wanted));
    const factor = zoom / this.view.zoom;
    this.view = { zoom, x: x - (x - this.view.x) * factor, y: y - (y - this.view.y) * factor };
    this.fitted = false;
    this.draw();
  }

  least() {
    return Math.min(this.root.clientWidth / this.size.width, this.root.clientHeight / this.size.height, 1) / 2;
  }

  pan(dx, dy) {
    this.view.x += dx;
    this.view.y += dy;
    this.fitted = false;
    this.draw();
  }

  setSplit(share) {
    this.split = Math.min(1, Math.max(0, share));
    this.draw();
  }

  togglePixels() {
    const on = this.root.classList.toggle('pixels');
    this.buttons.pixels.setAttribute('aria-pressed', String(on));
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.root;
    const { zoom } = this.view;
    // A part of the image always stays visible.
    this.view.x = Math.min(width - 40, Math.max(40 - this.size.width * zoom, this.view.x));
    this.view.y = Math.min(height - 40, Math.max(40 - this.size.height * zoom, this.view.y));
    for (const { image } of this.layers) {
      image.style.width = `${this.size.width}px`;
      image.style.height = `${this.size.height}px`;
      image.style.transform = `translate(${this.view.x}px, ${this.view.y}px) scale(${zoom})`;
    }
    const percent = 100 * this.split;
    this.layers[1].layer.style.clipPath = `inset(0 0 0 ${percent}%)`;
    this.layers[0].layer.style.clipPath = this.double ? `inset(0 ${100 - percent}% 0 0)` : 'none';
    this.handle.style.left = `${percent}%`;
    this.handle.setAttribute('aria-valuenow', String(Math.round(percent)));
    this.handle.setAttribute('aria-valuetext', `${Math.round(percent)} % ${this.tags[0].textContent}`);
    this.zoomText.textContent = `${Math.round(100 * zoom / this.actual())} %`;
  }

  listen() {
    new ResizeObserver(() => (this.fitted ? this.fit() : this.draw())).observe(this.root);
    this.root.addEventListener('wheel', (event) => {
      event.preventDefault();
      const place = this.place(event);
      this.zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), place.x, place.y);
    }, { passive: false });
    this.root.addEventListener('dblclick', (event) => {
      const place = this.place(event);
      if (this.fitted) this.zoomTo(Math.max(this.actual(), this.view.zoom * 2), place.x, place.y);
      else this.fit();
    });
    this.root.addEventListener('pointerdown', (event) => this.press(event));
    this.root.addEventListener('pointermove', (event) => this.move(event));
    for (const kind of ['pointerup', 'pointercancel']) this.root.addEventListener(kind, (event) => this.release(event));
    this.root.addEventListener('keydown', (event) => this.type(event));
  }

  press(event) {
    if (event.button) return;
    const onHandle = event.target === this.handle;
    this.root.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { ...this.place(event), onHandle });
    this.root.classList.toggle('panning', !onHandle);
    if (onHandle) this.handle.focus({ preventScroll: true });
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = { ...this.place(event), onHandle: before.onHandle };
    const others = [...this.pointers].filter(([id, { onHandle }]) => id !== event.pointerId && !onHandle);
    this.pointers.set(event.pointerId, now);
    if (before.onHandle) this.setSplit(now.x / this.root.clientWidth);
    else if (others.length) {
      const other = others[0][1];
      const distance = (point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
      this.zoomBy(distance(now) / distance(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
    } else this.pan(now.x - before.x, now.y - before.y);
  }

  release(event) {
    this.pointers.delete(event.pointerId);
    if (!this.pointers.size) this.root.classList.remove('panning');
  }

  type(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const onHandle = event.target === this.handle;
    const step = event.shiftKey ? 0.1 : 0.02;
    const actions = {
      '+': () => this.zoomBy(STEP), '=': () => this.zoomBy(STEP), '-': () => this.zoomBy(1 / STEP),
      0: () => this.fit(), 1: () => this.zoomTo(this.actual()),
      ArrowLeft: () => (onHandle ? this.setSplit(this.split - step) : this.pan(60, 0)),
      ArrowRight: () => (onHandle ? this.setSplit(this.split + step) : this.pan(-60, 0)),
      ArrowUp: () => (onHandle ? this.setSplit(this.split + step) : this.pan(0, 60)),
      ArrowDown: () => (onHandle ? this.setSplit(this.split - step) : this.pan(0, -60)),
      Home: onHandle && (() => this.setSplit(0)),
      End: onHandle && (() => this.setSplit(1)),
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  }

  place(event) {
    const box = this.root.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }
}

function add(parent, kind, className) {
  const element = document.createElement(kind);
  if (className) element.className = className;
  parent.append(element);
  return element;
}

async function load(src) {
  const image = new Image();
  image.src = src;
  await image.decode();
  return image;
}
