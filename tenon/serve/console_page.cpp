// The console's page: HTML, style and script in one, no libraries. Texts from the server go into the document as text
// only.
#include "tenon/serve/console.h"

namespace tenon::serve {

std::string_view console_page() {
  static constexpr std::string_view kPage = R"html(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tenon</title>
<style>
:root { --ink: #1b1f24; --quiet: #667078; --line: #d9dee3; --page: #f6f7f9; --card: #fff; --blue: #1f6feb; --red: #c9372c; --green: #1a7f4b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --quiet: #98a2ab; --line: #333a41; --page: #14171a; --card: #1c2125; --blue: #62a0ff; --red: #ff7b6e; --green: #4cc38a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 14px/1.45 system-ui, sans-serif; }
header { display: flex; gap: 12px; align-items: baseline; padding: 14px 22px; border-bottom: 1px solid var(--line); background: var(--card); }
h1 { font-size: 17px; margin: 0; } h2 { font-size: 13px; margin: 0 0 8px; font-weight: 600; }
main { display: grid; grid-template-columns: minmax(270px, 1fr) 2fr; gap: 14px; padding: 14px 22px; max-width: 1280px; margin: auto; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 12px 14px; min-width: 0; }
.side { grid-row: span 2; } .plots { display: grid; grid-template-columns: 1fr 1fr; gap: 14px; }
@media (max-width: 800px) { main, .plots { grid-template-columns: 1fr; } }
table { width: 100%; border-collapse: collapse; } td, th { text-align: left; padding: 3px 6px 3px 0; font-variant-numeric: tabular-nums; }
th { color: var(--quiet); font-weight: 400; font-size: 12px; } td.n, th.n { text-align: right; padding-right: 0; }
.model { border-top: 1px solid var(--line); padding: 8px 0 4px; } .model:first-of-type { border: 0; padding-top: 0; }
.model > button { all: unset; cursor: pointer; font-weight: 600; } .model > button:focus-visible { outline: 2px solid var(--blue); }
.model[aria-current=true] > button { color: var(--blue); }
.quiet { color: var(--quiet); font-size: 12px; } .bad { color: var(--red); } .good { color: var(--green); }
.tag { border: 1px solid var(--line); border-radius: 9px; padding: 0 7px; font-size: 12px; margin-left: 5px; display: inline-block; }
svg { width: 100%; height: 150px; display: block; } svg text { fill: var(--quiet); font-size: 10px; }
textarea { width: 100%; height: 120px; font: 12px/1.4 ui-monospace, monospace; color: inherit; background: var(--page); border: 1px solid var(--line); border-radius: 4px; padding: 8px; resize: vertical; }
pre { font: 12px/1.4 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 220px; overflow: auto; margin: 8px 0 0; }
.row { display: flex; gap: 10px; align-items: center; flex-wrap: wrap; margin: 6px 0; }
button.run { background: var(--blue); color: var(--card); border: 0; border-radius: 4px; padding: 6px 18px; font: inherit; cursor: pointer; }
select, input { font: inherit; color: inherit; background: var(--page); border: 1px solid var(--line); border-radius: 4px; padding: 3px; }
canvas { border: 1px solid var(--line); max-height: 64px; image-rendering: pixelated; } [hidden] { display: none !important; }
.bar { height: 8px; background: var(--blue); border-radius: 2px; }
</style>
</head>
<body>
<header><h1>Tenon</h1><span id="about" class="quiet"></span><span id="ready"></span></header>
<main>
<section class="side"><h2>Models</h2><div id="models"></div></section>
<div class="plots">
<section><h2>Requests a second <span class="quiet" id="now-rate"></span></h2><svg id="rate" role="img" aria-label="requests a second"></svg></section>
<section><h2>Latency, ms <span class="quiet" id="now-latency"></span></h2><svg id="latency" role="img" aria-label="latency in milliseconds"></svg></section>
</div>
<section>
<h2>Try <span id="try-name"></span> <select id="version" aria-label="version"></select></h2>
<div id="spec" class="quiet"></div>
<div class="row" id="image-row" hidden>
<label>Image <input type="file" id="image" accept="image/*"></label>
<label>values <select id="scale"><option value="255">0 … 1</option><option value="1">0 … 255</option><option value="norm">ImageNet mean and deviation</option></select></label>
<canvas id="canvas" width="1" height="1"></canvas></div>
<textarea id="request" spellcheck="false" aria-label="request"></textarea>
<div class="row"><button class="run" id="run">Run</button><span id="took" class="quiet"></span></div>
<div id="classes"></div><pre id="answer"></pre>
</section>
</main>
<script>
'use strict';
const $ = id => document.getElementById(id);
const make = (tag, text, cls) => { const e = document.createElement(tag); if (text !== undefined) e.textContent = text; if (cls) e.className = cls; return e; };
const SECONDS = 120;
const history = new Map();   // model -> [{t, requests, buckets}]
let state = null, chosen = null, filled = null, pixels = null;

const ready = m => m.versions.filter(v => v.inputs);
function totals(model) {
  const sum = {requests: 0, errors: 0, buckets: []};
  for (const v of ready(model)) {
    sum.requests += v.requests; sum.errors += v.errors;
    v.buckets.forEach((n, i) => sum.buckets[i] = (sum.buckets[i] || 0) + n);
  }
  return sum;
}
// The q-th quantile of the requests between two states, from the counts of each bucket.
function quantile(counts, bounds, q) {
  const all = counts.reduce((a, b) => a + b, 0);
  if (all <= 0) return null;
  let below = 0;
  for (let i = 0; i < counts.length; ++i) {
    if (below + counts[i] >= q * all) {
      const from = i ? bounds[i - 1] : 0, to = i < bounds.length ? bounds[i] : from;
      return from + (to - from) * (q * all - below) / counts[i];
    }
    below += counts[i];
  }
  return null;
}
function points(name) {
  const h = history.get(name) || [], out = [];
  for (let i = 1; i < h.length; ++i) {
    const dt = (h[i].t - h[i - 1].t) / 1000;
    const counts = h[i].buckets.map((n, b) => Math.max(0, n - (h[i - 1].buckets[b] || 0)));
    out.push({t: h[i].t, rate: Math.max(0, h[i].requests - h[i - 1].requests) / dt,
              p50: quantile(counts, state.bounds_ms, 0.5), p99: quantile(counts, state.bounds_ms, 0.99)});
  }
  return out;
}
const short = v => v === null ? '–' : v >= 100 ? v.toFixed(0) : v >= 1 ? v.toFixed(1) : v.toFixed(2);
function plot(svg, data, lines) {
  const W = svg.clientWidth || 400, H = 150, left = 38, bottom = 18, top = 6;
  svg.setAttribute('viewBox', `0 0 ${W} ${H}`);
  svg.replaceChildren();
  const add = (tag, attributes, text) => {
    const e = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const k in attributes) e.setAttribute(k, attributes[k]);
    if (text !== undefined) e.textContent = text;
    svg.append(e);
  };
  let most = 0;
  for (const d of data) for (const l of lines) most = Math.max(most, d[l.key] || 0);
  const step = 10 ** Math.floor(Math.log10(most || 1));
  most = Math.ceil((most || 1) / step) * step;
  const x = t => W - (state.time_ms - t) / 1000 / SECONDS * (W - left), y = v => top + (1 - v / most) * (H - top - bottom);
  for (const v of [0, most / 2, most]) {
    add('line', {x1: left, x2: W, y1: y(v), y2: y(v), stroke: 'var(--line)'});
    add('text', {x: left - 5, y: y(v) + 3, 'text-anchor': 'end'}, short(v));
  }
  add('text', {x: left, y: H - 4}, `${SECONDS} s ago`);
  add('text', {x: W, y: H - 4, 'text-anchor': 'end'}, 'now');
  for (const l of lines) {
    let path = '', on = false;
    for (const d of data) {
      if (d[l.key] === null) { on = false; continue; }
      path += `${on ? 'L' : 'M'}${x(d.t).toFixed(1)} ${y(d[l.key]).toFixed(1)}`;
      on = true;
    }
    add('path', {d: path, fill: 'none', stroke: l.color, 'stroke-width': 1.6, class: 'series'});
  }
}
function showModels() {
  const box = $('models');
  box.replaceChildren();
  for (const m of state.models) {
    const div = make('div', undefined, 'model');
    div.setAttribute('aria-current', m.name === chosen);
    const name = make('button', m.name);
    name.onclick = () => { chosen = m.name; show(); };
    div.append(name);
    for (const l of m.labels) div.append(make('span', `${l.label} → ${l.version}${l.ready ? '' : ' (waits)'}`, 'tag'));
    if (m.split) {
      const line = make('div', 'split: ', 'quiet');
      for (const t of m.split) line.append(make('span', `${t.target} ${(100 * t.share).toFixed(0)} %${t.rolled_back ? ', rolled back: ' + t.rolled_back : ''}`, t.rolled_back ? 'tag bad' : 'tag'));
      div.append(line);
    }
    if (m.reason) div.append(make('div', m.reason, 'bad'));
    const table = make('table'), head = make('tr');
    for (const t of ['version', 'state']) head.append(make('th', t));
    for (const t of ['requests', 'errors', 'pending']) head.append(make('th', t, 'n'));
    table.append(head);
    for (const v of m.versions) {
      const tr = make('tr');
      tr.append(make('td', v.version), make('td', v.state.toLowerCase(), v.state === 'AVAILABLE' ? 'good' : v.reason ? 'bad' : ''));
      for (const k of ['requests', 'errors', 'pending']) tr.append(make('td', v[k] === undefined ? '–' : v[k], 'n'));
      table.append(tr);
      const note = v.state === 'AVAILABLE' ? v.execution : v.reason;
      if (note) { const why = make('tr'), td = make('td', note, 'quiet'); td.colSpan = 6; why.append(td); table.append(why); }
    }
    div.append(table);
    box.append(div);
  }
}
function sample(v) {
  const inputs = v.inputs.map(i => {
    const shape = (i.shape || [1]).map(d => d < 0 ? 1 : d), n = shape.reduce((a, b) => a * b, 1);
    const one = i.datatype === 'BYTES' ? 'text' : i.datatype === 'BOOL' ? true : 1;
    return {name: i.name, datatype: i.datatype, shape, data: n <= 256 ? Array(n).fill(one) : ['… ' + n + ' values: choose an image above, or write them here']};
  });
  return inputs.map(i => JSON.stringify(i)).join(',\n ');
}
// Where the height, width and channels of an image are; null if the input is none.
function imageAxes(i) {
  if (!i || !i.shape || i.datatype === 'BYTES' || i.datatype === 'BOOL') return null;
  const s = i.shape.slice(-3).map(d => d < 0 ? 224 : d);
  if (i.shape.length >= 3 && i.shape.length <= 4) {
    if (s[0] === 3 || s[0] === 1) return {c: s[0], h: s[1], w: s[2], first: true, flat: false};
    if (s[2] === 3 || s[2] === 1) return {c: s[2], h: s[0], w: s[1], first: false, flat: false};
  }
  const n = i.shape[i.shape.length - 1], side = Math.sqrt(n);
  return n >= 64 && Number.isInteger(side) ? {c: 1, h: side, w: side, first: true, flat: true} : null;
}
const version = () => { const m = state.models.find(m => m.name === chosen); return m && ready(m).find(v => String(v.version) === $('version').value); };
function showTry() {
  const m = state.models.find(m => m.name === chosen);
  $('try-name').textContent = chosen || '';
  if (!m) return;
  const numbers = ready(m).map(v => String(v.version)), now = $('version').value;
  if ([...$('version').options].map(o => o.value).join() !== numbers.join()) {
    $('version').replaceChildren(...numbers.map(n => { const o = make('option', 'version ' + n); o.value = n; return o; }));
    $('version').value = numbers.includes(now) ? now : numbers[numbers.length - 1] || '';
  }
  const v = version(), key = v && chosen + '/' + JSON.stringify(v.inputs);
  if (!v || key === filled) return;
  filled = key;
  const text = list => list.map(s => `${s.name} ${s.datatype} [${(s.shape || ['any']).map(d => d < 0 ? 'any' : d).join(', ')}]`).join(', ');
  $('spec').textContent = `${text(v.inputs)} → ${text(v.outputs)}`;
  $('request').value = `{"inputs": [\n ${sample(v)}\n]}`;
  $('image-row').hidden = !(v.inputs.length === 1 && imageAxes(v.inputs[0]));
  $('answer').textContent = $('took').textContent = '';
  $('classes').replaceChildren();
}
function show() {
  if (!state.models.some(m => m.name === chosen)) chosen = state.models.length ? state.models[0].name : null;
  $('about').textContent = `${state.version} · ${state.models.length} model${state.models.length === 1 ? '' : 's'}`;
  $('ready').textContent = state.ready ? 'ready' : 'not ready';
  $('ready').className = state.ready ? 'good' : 'bad';
  showModels();
  showTry();
  const data = points(chosen), last = data[data.length - 1];
  plot($('rate'), data, [{key: 'rate', color: 'var(--blue)'}]);
  plot($('latency'), data, [{key: 'p50', color: 'var(--blue)'}, {key: 'p99', color: 'var(--red)'}]);
  $('now-rate').textContent = last ? short(last.rate) : '';
  $('now-latency').textContent = last ? `p50 ${short(last.p50)} (blue)  p99 ${short(last.p99)} (red)` : '';
}
async function look() {
  try {
    state = await (await fetch('/console/state')).json();
    for (const m of state.models) {
      const h = history.get(m.name) || [];
      h.push({t: state.time_ms, ...totals(m)});
      while (h.length && h[0].t < state.time_ms - SECONDS * 1000) h.shift();
      history.set(m.name, h);
    }
    show();
  } catch (e) {
    $('ready').textContent = 'no answer';
    $('ready').className = 'bad';
  }
}
$('version').onchange = () => { filled = null; showTry(); };
$('image').onchange = async () => {
  const file = $('image').files[0], input = version().inputs[0], a = imageAxes(input);
  if (!file || !a) return;
  const bitmap = await createImageBitmap(file), canvas = $('canvas');
  canvas.width = a.w; canvas.height = a.h;
  const g = canvas.getContext('2d');
  g.drawImage(bitmap, 0, 0, a.w, a.h);
  pixels = g.getImageData(0, 0, a.w, a.h).data;
  fillImage();
};
$('scale').onchange = () => { if (pixels) fillImage(); };
function fillImage() {
  const input = version().inputs[0], a = imageAxes(input), how = $('scale').value, n = a.h * a.w, data = new Array(n * a.c);
  const mean = [0.485, 0.456, 0.406], deviation = [0.229, 0.224, 0.225], whole = input.datatype.includes('INT');
  for (let p = 0; p < n; ++p) for (let c = 0; c < a.c; ++c) {
    let v = a.c === 3 ? pixels[4 * p + c] : 0.299 * pixels[4 * p] + 0.587 * pixels[4 * p + 1] + 0.114 * pixels[4 * p + 2];
    if (how === '255') v /= 255;
    if (how === 'norm') v = (v / 255 - mean[c]) / deviation[c];
    data[a.first ? c * n + p : p * a.c + c] = whole ? Math.round(v) : Math.round(v * 1e5) / 1e5;
  }
  const tail = a.flat ? [n] : a.first ? [a.c, a.h, a.w] : [a.h, a.w, a.c], shape = [...Array(input.shape.length - tail.length).fill(1), ...tail];
  $('request').value = `{"inputs": [\n ${JSON.stringify({name: input.name, datatype: input.datatype, shape, data})}\n]}`;
}
function showClasses(answer, v) {
  $('classes').replaceChildren();
  const out = (answer.outputs || []).find(o => o.data && o.data.length >= 2 && o.data.length <= 100000 && o.shape.length === 2 && o.shape[0] === 1 && /^FP/.test(o.datatype));
  if (!out) return;
  const names = v.classes ? v.classes.split('\n') : [], most = Math.max(...out.data), e = out.data.map(x => Math.exp(x - most)), sum = e.reduce((a, b) => a + b, 0);
  const isShares = out.data.every(x => x >= 0) && Math.abs(out.data.reduce((a, b) => a + b, 0) - 1) < 1e-3, share = isShares ? out.data : e.map(x => x / sum);
  const table = make('table');
  share.map((p, i) => [p, i]).sort((a, b) => b[0] - a[0]).slice(0, 5).forEach(([p, i]) => {
    const tr = make('tr'), cell = make('td'), bar = make('div', undefined, 'bar');
    bar.style.width = (100 * p).toFixed(1) + '%';
    cell.style.width = '50%';
    cell.append(bar);
    tr.append(make('td', names[i] || 'class ' + i), make('td', (100 * p).toFixed(1) + ' %', 'n'), cell);
    table.append(tr);
  });
  $('classes').append(make('div', isShares ? '' : 'softmax of ' + out.name, 'quiet'), table);
}
$('run').onclick = async () => {
  const v = version();
  if (!v) return;
  const path = `/v2/models/${encodeURIComponent(chosen)}/versions/${v.version}/infer`, from = performance.now();
  try {
    const response = await fetch(path, {method: 'POST', headers: {'Content-Type': 'application/json'}, body: $('request').value});
    const text = await response.text();
    $('took').textContent = `${response.status}, ${(performance.now() - from).toFixed(1)} ms`;
    $('answer').textContent = text.length > 20000 ? text.slice(0, 20000) + ' …' : text;
    $('answer').className = response.ok ? '' : 'bad';
    if (response.ok) showClasses(JSON.parse(text), v); else $('classes').replaceChildren();
  } catch (e) {
    $('took').textContent = String(e);
  }
};
look();
setInterval(look, 1000);
</script>
</body>
</html>
)html";
  return kPage;
}

}  // namespace tenon::serve
