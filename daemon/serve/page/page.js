// SPDX-License-Identifier: MIT
// The page of sluiced: a chat that streams, and where the experts come from meanwhile. What comes from the daemon is
// written as text, never as markup. The conversation lives in this tab alone; the key in its sessionStorage.
'use strict';

const $ = (id) => document.getElementById(id);
let messages = [];
let running = null; // the AbortController of the answer that is being written

function headers() {
  const key = $('key').value;
  return { 'Content-Type': 'application/json', ...(key ? { Authorization: 'Bearer ' + key } : {}) };
}

function add(parent, tag, name, text) {
  const e = document.createElement(tag);
  if (name) e.className = name;
  if (text) e.textContent = text;
  parent.append(e);
  return e;
}

function addTurn(role, text) {
  return add(add($('chat'), 'div', 'turn ' + role), 'div', 'body', text);
}

function atEnd() {
  const c = $('chat');
  return c.scrollHeight - c.scrollTop - c.clientHeight < 60;
}

function toEnd() {
  $('chat').scrollTop = $('chat').scrollHeight;
}

async function faultOf(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return 'The daemon answered with status ' + response.status + '.';
  }
}

// Yields the data of each event of a stream.
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split('\n\n');
    rest = blocks.pop();
    for (const block of blocks)
      for (const line of block.split('\n'))
        if (line.startsWith('data: ') && line !== 'data: [DONE]') yield JSON.parse(line.slice(6));
  }
}

// An answer on the page: reasoning folded, content, a line below it.
function answerView() {
  const turn = add($('chat'), 'div', 'turn assistant');
  let thought = null, body = null;
  return {
    reasoning(text) {
      if (!thought) {
        const details = add(turn, 'details');
        add(details, 'summary', '', 'Reasoning');
        thought = add(details, 'div');
        details.thought = thought;
      }
      thought.textContent += text;
    },
    content(text) {
      if (!body) body = add(turn, 'div', 'body');
      body.textContent += text;
    },
    note(text, wrong) {
      add(turn, 'div', wrong ? 'wrong' : 'quiet', text);
    },
  };
}

function requestOf() {
  const system = $('system').value.trim();
  const most = parseInt($('most').value, 10);
  return {
    messages: [...(system ? [{ role: 'system', content: system }] : []), ...messages],
    stream: true,
    stream_options: { include_usage: true },
    temperature: parseFloat($('temperature').value) || 0,
    ...(most > 0 ? { max_tokens: most } : {}),
  };
}

function take(event, answer, view) {
  if (event.error) throw new Error(event.error.message);
  const delta = event.choices?.[0]?.delta ?? {};
  const thought = delta.reasoning_content ?? delta.reasoning;
  if (thought) view.reasoning(thought);
  if (delta.content) view.content(delta.content);
  answer.content += delta.content ?? '';
  if (event.choices?.[0]?.finish_reason) answer.finish = event.choices[0].finish_reason;
  if (event.usage) answer.usage = event.usage;
  if (event.timings) answer.timings = event.timings;
}

function summary(answer) {
  const rate = answer.timings?.predicted_per_second;
  return [
    answer.usage ? answer.usage.completion_tokens + ' tokens' : '',
    rate ? rate.toFixed(1) + ' tokens/s' : '',
    answer.usage?.prompt_tokens_details.cached_tokens ? answer.usage.prompt_tokens_details.cached_tokens + ' of the prompt from the cache' : '',
    answer.finish === 'length' ? 'cut: no more tokens allowed' : '',
  ].filter(Boolean).join(' · ');
}

async function ask() {
  const view = answerView();
  const answer = { content: '' };
  running = new AbortController();
  $('send').textContent = 'Stop';
  try {
    const response = await fetch('v1/chat/completions', {
      method: 'POST', headers: headers(), body: JSON.stringify(requestOf()), signal: running.signal,
    });
    if (!response.ok) throw new Error(await faultOf(response));
    for await (const event of eventsOf(response)) {
      const follow = atEnd();
      take(event, answer, view);
      if (follow) toEnd();
    }
    view.note(summary(answer));
  } catch (e) {
    if (e.name === 'AbortError') view.note('Stopped.');
    else view.note(e.message || String(e), true);
  }
  messages.push({ role: 'assistant', content: answer.content });
  running = null;
  $('send').textContent = 'Send';
  toEnd();
}

function send(event) {
  event.preventDefault();
  const text = $('text').value.trim();
  if (running) return running.abort();
  if (!text) return;
  $('text').value = '';
  messages.push({ role: 'user', content: text });
  addTurn('user', text);
  toEnd();
  ask();
}

// ---- where the experts come from ----

let before = null;

function numbersOf(text) {
  const all = {};
  for (const line of text.split('\n')) {
    const m = line.match(/^(sluice_[a-z_]+) ([-+0-9.e]+)$/);
    if (m) all[m[1].slice(7)] = parseFloat(m[2]);
  }
  return all;
}

function bytes(n) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return n.toFixed(n < 10 && i ? 1 : 0) + ' ' + units[i];
}

function show(now, seconds) {
  const grown = (name) => now[name] - before[name];
  const hits = grown('expert_hits_total'), misses = grown('expert_misses_total');
  const size = now.experts_resident ? now.resident_bytes / now.experts_resident : 0;
  $('rate').textContent = (grown('tokens_generated_total') / seconds).toFixed(1);
  $('hit').textContent = hits + misses ? (100 * hits / (hits + misses)).toFixed(1) + ' %' : '–';
  $('memory').textContent = bytes(hits * size / seconds) + '/s';
  $('disk').textContent = bytes(grown('disk_read_bytes_total') / seconds) + '/s';
}

function showResident(now) {
  const share = now.experts ? now.experts_resident / now.experts : 1;
  $('resident').style.width = (100 * share).toFixed(1) + '%';
  $('resident-text').textContent = now.experts
    ? now.experts_resident + ' of ' + now.experts + ' experts in memory, ' + bytes(now.resident_bytes) + ' of ' + bytes(now.budget_bytes)
    : 'a model without experts: all of it is in memory';
}

async function look() {
  try {
    const response = document.hidden ? null : await fetch('metrics', { headers: headers() });
    if (response && response.ok) {
      const now = numbersOf(await response.text());
      const at = performance.now();
      showResident(now);
      if (before) show(now, (at - before.at) / 1000);
      before = { ...now, at };
    }
  } catch {
    $('rate').textContent = '–';
  }
  setTimeout(look, 1000);
}

// ---- which experts were used, by layer ----

const FADES = 0.8; // of what was used before, with every look
let uses = null, heat = null;

// Adds what was used since the last look to what has faded; each layer by its own most used expert.
function warm(layers) {
  heat = layers.map((row, i) => row.uses.map((n, k) => {
    const more = uses ? (n - uses[i].uses[k]) >>> 0 : 0; // counts wrap at 2^32
    return (heat ? heat[i][k] * FADES : 0) + more;
  }));
  uses = layers;
}

function draw() {
  const map = $('map'), width = heat[0].length;
  map.width = width;
  map.height = heat.length;
  const paint = map.getContext('2d'), image = paint.createImageData(width, heat.length);
  heat.forEach((row, y) => {
    const most = Math.max(...row) || 1;
    row.forEach((value, x) => {
      const v = Math.sqrt(value / most), at = 4 * (y * width + x);
      image.data.set([40 + 215 * v, 40 + 130 * v * v, 60 * (1 - v) + 20, 255], at);
    });
  });
  paint.putImageData(image, 0, 0);
}

async function lookAtExperts() {
  try {
    const open = $('heat').open && !document.hidden;
    const response = open ? await fetch('experts', { headers: headers() }) : null;
    if (response && response.ok) {
      const layers = (await response.json()).layers;
      if (layers.length) {
        warm(layers);
        draw();
      } else {
        $('map-text').textContent = 'a model without experts';
      }
    }
  } catch {
    uses = heat = null; // another daemon may answer next
  }
  setTimeout(lookAtExperts, 1000);
}

async function lookAtModel() {
  const response = await fetch('v1/models', { headers: headers() });
  if (response.ok) {
    const model = (await response.json()).data[0];
    $('model').textContent = model.id + ', ' + model.max_model_len + ' tokens of context';
  } else {
    $('model').textContent = await faultOf(response);
    if (response.status === 401) toggleSettings(true);
  }
}

function toggleSettings(open) {
  $('settings').hidden = !open;
  $('settings-button').setAttribute('aria-expanded', String(open));
}

$('key').value = sessionStorage.getItem('key') ?? '';
$('key').addEventListener('change', () => {
  sessionStorage.setItem('key', $('key').value);
  lookAtModel();
});
$('settings-button').addEventListener('click', () => toggleSettings($('settings').hidden));
$('new').addEventListener('click', () => {
  running?.abort();
  messages = [];
  $('chat').replaceChildren();
  $('text').focus();
});
$('form').addEventListener('submit', send);
$('text').addEventListener('keydown', (e) => {
  if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) send(e);
});
$('heat').addEventListener('toggle', () => { uses = heat = null; });
lookAtModel();
look();
lookAtExperts();
