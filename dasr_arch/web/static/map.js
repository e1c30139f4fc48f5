// The map of representations as SVG.

const SPACE = 'http://www.w3.org/2000/svg';
const RAMP = ['#3b4cc0', '#6f92f3', '#c0d4f5', '#f2cab5', '#e7745b', '#b40426'];
const SIZE = { width: 760, height: 340, left: 44, right: 20, top: 16, bottom: 40 };

/** Draws a map; returns an SVG and its legend. */
export function drawMap(map, scale) {
  const points = [...map.others, ...map.own, map.here];
  const axis = (key, low, high) => {
    const values = points.map((point) => point[key]);
    const [from, to] = [Math.min(...values), Math.max(...values)];
    const margin = 0.06 * (to - from || 1);
    return (value) => low + ((value - from + margin) / (to - from + 2 * margin)) * (high - low);
  };
  const x = axis('x', SIZE.left, SIZE.width - SIZE.right);
  const y = axis('y', SIZE.height - SIZE.bottom, SIZE.top);
  const svg = make('svg', { viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, role: 'img' });
  svg.setAttribute('aria-label', `Map: nearest known degradations of this image: ${map.nearest.join(', ')}`);
  svg.append(make('rect', {
    class: 'frame', x: SIZE.left, y: SIZE.top, width: SIZE.width - SIZE.left - SIZE.right,
    height: SIZE.height - SIZE.top - SIZE.bottom, rx: 6,
  }));
  svg.append(text('first principal component', SIZE.width / 2, SIZE.height - 12, 'middle'));
  const upright = text('second', 0, 0, 'middle');
  upright.setAttribute('transform', `translate(20 ${SIZE.height / 2}) rotate(-90)`);
  svg.append(upright);
  for (const point of map.others) {
    const mark = shape(point, x(point.x), y(point.y), 3.4, colour(point.width, scale));
    mark.classList.add('other');
    mark.append(title(`${point.image}: ${point.label}`));
    svg.append(mark);
  }
  for (const noise of new Set(map.own.map((point) => point.noise))) {
    const line = map.own.filter((point) => point.noise === noise && !point.aniso).sort((a, b) => a.width - b.width);
    svg.append(make('polyline', { class: 'path', points: line.map((point) => `${x(point.x)},${y(point.y)}`).join(' ') }));
  }
  for (const point of map.own) {
    const mark = shape(point, x(point.x), y(point.y), 6, colour(point.width, scale));
    mark.classList.add('own');
    mark.append(title(`this image: ${point.label}`));
    svg.append(mark);
  }
  const least = Math.min(...map.own.map((point) => point.noise));
  const plain = map.own.filter((point) => !point.aniso && point.noise === least).sort((a, b) => a.width - b.width);
  for (const point of [plain[0], plain[plain.length - 1]]) {
    const label = text(`sigma ${point.width}`, x(point.x), y(point.y) - 11, 'middle');
    label.setAttribute('class', 'own-text');
    svg.append(label);
  }
  const [hx, hy] = [x(map.here.x), y(map.here.y)];
  svg.append(make('circle', { class: 'here', cx: hx, cy: hy, r: 11 }));
  svg.append(make('path', { class: 'here', d: `M${hx - 17} ${hy}h-6M${hx + 17} ${hy}h6M${hx} ${hy - 17}v-6M${hx} ${hy + 17}v6` }));
  const right = hx > SIZE.width - 200;
  const below = hy < SIZE.height / 2;
  const label = text(map.here.label, hx + (right ? -18 : 18), hy + (below ? 34 : -26), right ? 'end' : 'start');
  label.setAttribute('class', 'here-text');
  svg.append(label);
  return [svg, legend(map, scale)];
}

function legend(map, scale) {
  const list = document.createElement('ul');
  list.className = 'legend';
  const add = (icon, words) => {
    const item = document.createElement('li');
    if (icon) {
      const svg = make('svg', { viewBox: '0 0 14 14', 'aria-hidden': 'true' });
      svg.append(icon);
      item.append(svg);
    }
    item.append(...words);
    list.append(item);
  };
  const ramp = document.createElement('span');
  ramp.className = 'ramp';
  add(null, ['sigma 0', ramp, String(scale)]);
  const grey = 'currentColor';
  add(make('circle', { cx: 7, cy: 7, r: 5, fill: 'none', stroke: '#a02020', 'stroke-width': 2.5 }), ['this experiment']);
  add(shape({ noise: 0 }, 7, 7, 5.5, grey), ['this image, known degradations']);
  const faint = shape({ noise: 0 }, 7, 7, 3.4, grey);
  faint.setAttribute('opacity', '.35');
  add(faint, ['sample images']);
  for (const noise of new Set(map.own.map((point) => point.noise))) {
    if (noise) add(shape({ noise }, 7, 7, 5, grey), [`noise ${noise}`]);
  }
  if (map.own.some((point) => point.aniso)) add(shape({ aniso: true }, 7, 7, 5, grey), ['anisotropic blur']);
  return list;
}

/** A disc without noise, a triangle for noise below 20, a square above; a rhombus for anisotropic blur. */
function shape(point, x, y, size, fill) {
  if (point.aniso) return make('path', { d: `M${x} ${y - 1.3 * size}l${1.3 * size} ${1.3 * size}l${-1.3 * size} ${1.3 * size}l${-1.3 * size} ${-1.3 * size}z`, fill });
  if (!point.noise) return make('circle', { cx: x, cy: y, r: size, fill });
  if (point.noise < 20) return make('path', { d: `M${x} ${y - 1.2 * size}l${1.1 * size} ${2 * size}h${-2.2 * size}z`, fill });
  return make('rect', { x: x - size * 0.9, y: y - size * 0.9, width: 1.8 * size, height: 1.8 * size, fill });
}

function colour(width, most) {
  const place = Math.min(1, Math.max(0, width / most)) * (RAMP.length - 1);
  const low = Math.min(RAMP.length - 2, Math.floor(place));
  const part = (index, from) => parseInt(RAMP[index].slice(from, from + 2), 16);
  const mixed = [1, 3, 5].map((from) => Math.round(part(low, from) + (part(low + 1, from) - part(low, from)) * (place - low)));
  return `rgb(${mixed.join(' ')})`;
}

function make(kind, attributes) {
  const element = document.createElementNS(SPACE, kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function text(words, x, y, anchor) {
  const element = make('text', { x, y, 'text-anchor': anchor });
  element.textContent = words;
  return element;
}

function title(words) {
  const element = make('title', {});
  element.textContent = words;
  return element;
}
