// Marks regions on an image and its depth. Python gives value {image, depth, width, height, regions} and named, the region indices to highlight;
// gestures go back as 'select' with coordinates as shares of the image's sides, 0 to 1. Chips put <region k> into the question.
const root = element.querySelector('.marker');
const views = [...root.querySelectorAll('.view')];
const chips = root.querySelector('.chips');
let tool = 'box', points = [], stroke = null, cursor = null, corner = null, hover = null;

const share = (event, canvas) => {
  const frame = canvas.getBoundingClientRect();
  const clip = value => Math.min(1, Math.max(0, value));
  return [clip((event.clientX - frame.left) / frame.width), clip((event.clientY - frame.top) / frame.height)];
};
const send = (action, data = {}) => trigger('select', {action, ...data});
const boxOf = (a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];

function clearDrawing() { points = []; stroke = null; corner = null; draw(); }

function draw() {
  for (const view of views) {
    const canvas = view.querySelector('canvas');
    const width = props.value?.width || 640, height = props.value?.height || 480;
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const pen = canvas.getContext('2d');
    pen.clearRect(0, 0, width, height);
    const at = point => [point[0] * width, point[1] * height];
    const line = (colour, size) => { pen.strokeStyle = colour; pen.lineWidth = size; };
    const outline = path => { line('black', width / 250); path(); pen.stroke(); line('white', width / 500); path(); pen.stroke(); };
    if (stroke && tool === 'brush') {
      pen.lineCap = pen.lineJoin = 'round';
      line('rgba(255, 140, 0, .6)', width / 32);
      pen.beginPath(); pen.moveTo(...at(stroke[0]));
      for (const point of stroke) pen.lineTo(...at(point));
      pen.lineTo(...at(stroke[0]).map(value => value + .1)); // a dot for a click
      if (stroke.length > 1) { pen.beginPath(); pen.moveTo(...at(stroke[0])); for (const point of stroke) pen.lineTo(...at(point)); }
      pen.stroke();
    } else if (stroke || corner) {
      const [x0, y0, x1, y1] = boxOf(stroke ? stroke[0] : corner, stroke ? stroke[stroke.length - 1] : cursor);
      outline(() => { pen.beginPath(); pen.rect(x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height); });
    }
    if (points.length) outline(() => {
      pen.beginPath(); pen.moveTo(...at(points[0]));
      for (const point of hover ? [...points, hover] : points) pen.lineTo(...at(point));
    });
    if (cursor && document.activeElement === canvas) outline(() => {
      const [x, y] = at(cursor), arm = width / 60;
      pen.beginPath(); pen.moveTo(x - arm, y); pen.lineTo(x + arm, y); pen.moveTo(x, y - arm); pen.lineTo(x, y + arm);
    });
  }
}

function painted() {
  const canvas = views[0].querySelector('canvas');
  const whole = document.createElement('canvas');
  whole.width = canvas.width; whole.height = canvas.height;
  whole.getContext('2d').drawImage(canvas, 0, 0);
  return whole.toDataURL('image/png');
}

function close() {
  const found = points.filter((p, i) => !i || Math.hypot(p[0] - points[i - 1][0], p[1] - points[i - 1][1]) > .002);
  clearDrawing();
  if (found.length >= 3) send('polygon', {points: found});
}

for (const view of views) {
  const canvas = view.querySelector('canvas');
  canvas.addEventListener('pointerdown', event => {
    if (!props.value?.image || event.button) return;
    const point = share(event, canvas);
    cursor = point;
    if (tool === 'pick') return send('pick', {x: point[0], y: point[1]});
    if (tool === 'polygon') {
      if (points.length > 2 && Math.hypot(point[0] - points[0][0], point[1] - points[0][1]) < .02) return close();
      points.push(point);
      return draw();
    }
    canvas.setPointerCapture(event.pointerId);
    stroke = [point];
    draw();
  });
  canvas.addEventListener('pointermove', event => {
    const point = share(event, canvas);
    if (tool === 'polygon' && points.length) { hover = point; draw(); }
    if (!stroke) return;
    tool === 'box' ? stroke = [stroke[0], point] : stroke.push(point);
    draw();
  });
  canvas.addEventListener('pointerup', event => {
    if (!stroke) return;
    if (tool === 'brush') { const mask = painted(); clearDrawing(); return send('brush', {mask}); }
    const [x0, y0, x1, y1] = boxOf(stroke[0], share(event, canvas));
    clearDrawing();
    if (x1 - x0 > .003 && y1 - y0 > .003) send('box', {box: [x0, y0, x1, y1]});
  });
  canvas.addEventListener('pointercancel', clearDrawing);
  canvas.addEventListener('dblclick', () => { if (tool === 'polygon') close(); });
  canvas.addEventListener('focus', draw);
  canvas.addEventListener('blur', draw);
  canvas.addEventListener('keydown', event => {
    const step = event.shiftKey ? .05 : .01;
    const move = {ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step]}[event.key];
    cursor = cursor || [.5, .5];
    if (move) cursor = cursor.map((value, axis) => Math.min(1, Math.max(0, value + move[axis])));
    else if (event.key === 'Escape') return clearDrawing();
    else if (event.key === 'Enter' && tool === 'polygon' && points.length > 2) { event.preventDefault(); return close(); }
    else if (event.key === 'Enter' || event.key === ' ') {
      if (tool === 'pick') send('pick', {x: cursor[0], y: cursor[1]});
      else if (tool === 'polygon') points.push(cursor);
      else if (!corner) corner = cursor;
      else { const box = boxOf(corner, cursor); corner = null; if (box[2] > box[0] && box[3] > box[1]) send('box', {box}); }
    } else return;
    event.preventDefault();
    draw();
  });
}

for (const button of root.querySelectorAll('[data-tool]')) button.addEventListener('click', () => {
  tool = button.dataset.tool;
  for (const other of root.querySelectorAll('[data-tool]')) other.setAttribute('aria-pressed', String(other === button));
  clearDrawing();
});
for (const button of root.querySelectorAll('[data-act]')) button.addEventListener('click', () => { clearDrawing(); send(button.dataset.act); });

function insert(number) {
  const box = document.querySelector('#question textarea');
  const text = `<region ${number}>`, start = box.selectionStart ?? box.value.length, end = box.selectionEnd ?? start;
  const before = box.value.slice(0, start), gap = before && !before.endsWith(' ') ? ' ' : '';
  box.value = before + gap + text + box.value.slice(end);
  box.dispatchEvent(new Event('input', {bubbles: true}));
  box.focus();
  box.selectionStart = box.selectionEnd = start + gap.length + text.length;
}

function make(tag, attributes, style = {}) {
  const made = Object.assign(document.createElement(tag), attributes);
  Object.assign(made.style, style);
  return made;
}

function show() {
  const value = props.value || {};
  const named = new Set(props.named || []), regions = value.regions || [];
  for (const view of views) {
    const source = value[view.dataset.view], image = view.querySelector('img');
    view.hidden = !source;
    if (source && image.src !== source) image.src = source;
    const marks = view.querySelector('.marks');
    marks.classList.toggle('dim', named.size > 0);
    marks.replaceChildren(...regions.flatMap(region => {
      const [left, top, width, height] = region.box.map(share => `${share}%`);
      const className = named.has(region.number) ? 'named' : '';
      const [x, y] = region.anchor.map(share => `${share}%`);
      return [
        make('img', {src: region.mask, alt: '', className, draggable: false}, {left, top, width, height}),
        make('span', {textContent: region.number, className}, {left: x, top: y, background: region.colour, color: region.ink}),
      ];
    }));
  }
  chips.replaceChildren(...regions.map(region => {
    const one = make('span', {className: 'one'});
    const put = make('button', {type: 'button', textContent: `region ${region.number}`, title: 'Put it into the question'},
      {background: region.colour, color: region.ink});
    put.addEventListener('click', () => insert(region.number));
    const away = make('button', {type: 'button', textContent: '×', title: `Take region ${region.number} away`});
    away.setAttribute('aria-label', `Take region ${region.number} away`);
    away.addEventListener('click', () => send('delete', {number: region.number}));
    one.append(put, away);
    return one;
  }));
  if (!regions.length) chips.append(make('span', {className: 'none', textContent: 'Mark a region on the image; its button then puts it into the question.'}));
  draw();
}

watch(['value', 'named'], show);
show();
