// The page's script: copy buttons, the choice of a model, the live rows, the key.
// Texts are only ever set as text. The key stays in a variable of this page.
'use strict';

const body = document.body;
const byId = (id) => document.getElementById(id);
const RETRY_MS = [1000, 2000, 5000, 15000];
let key = '';
let live = body.dataset.live; // "open", "key" or "none"

// ---- addresses: where TLS ends before the service, only the browser knows the scheme ----

function ownAddress(text) {
  const served = body.dataset.base;
  const seen = `${location.origin}/v1`;
  return served === seen ? text : text.replaceAll(served, seen);
}

function showOwnAddress() {
  for (const one of document.querySelectorAll('#base-url, .panel pre code')) {
    one.textContent = ownAddress(one.textContent);
  }
}

// ---- copying ----

async function copy(text, element) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { // no clipboard without TLS, but for this machine
    const selection = getSelection();
    selection.selectAllChildren(element);
    const done = document.execCommand('copy');
    selection.removeAllRanges();
    return done;
  }
}

function prepareCopying() {
  for (const button of document.querySelectorAll('button.copy')) {
    const label = button.firstChild;
    const said = label.data;
    let timer = 0;
    button.hidden = false;
    button.addEventListener('click', async () => {
      const element = byId(button.dataset.copies);
      const done = await copy(element.textContent, element);
      label.data = done ? 'Copied' : 'Select and copy';
      button.classList.toggle('copied', done);
      clearTimeout(timer);
      timer = setTimeout(() => {
        label.data = said;
        button.classList.remove('copied');
      }, 1500);
    });
  }
}

// ---- models and snippets ----

function headers() {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function cell(row, className, text, label) {
  const made = element('td', className, text);
  if (label) made.dataset.label = label;
  row.append(made);
  return made;
}

async function loadContent(model) {
  const query = model ? `?model=${encodeURIComponent(model)}` : '';
  const answer = await fetch(`/page/content${query}`, { headers: headers(), cache: 'no-store' });
  if (!answer.ok) throw new Error(await problemOf(answer));
  showContent(await answer.json());
}

async function problemOf(answer) {
  try {
    return (await answer.json()).error.message;
  } catch {
    return `The service answered with status ${answer.status}.`;
  }
}

function showContent(content) {
  const select = byId('model');
  select.replaceChildren(...content.choices.map((id) => {
    const option = element('option', '', id);
    option.value = id;
    option.selected = id === content.model;
    return option;
  }));
  byId('model-form').hidden = content.choices.length === 0;
  for (const snippet of content.snippets) {
    byId(`text-${snippet.id}`).textContent = ownAddress(snippet.text);
  }
  byId('models-state').textContent = content.remark;
  byId('models-rows').replaceChildren(...content.models.map((model) => {
    const row = element('tr');
    cell(row).append(element('code', '', model.name));
    cell(row, '', model.upstream);
    cell(row, 'number', model.context, 'context');
    cell(row, 'number', model.output, 'output');
    cell(row, '', model.input);
    return row;
  }));
  byId('models-table').hidden = content.models.length === 0;
}

function prepareModels() {
  const form = byId('model-form');
  const choose = async (event) => {
    event.preventDefault();
    try {
      await loadContent(byId('model').value);
    } catch (error) {
      byId('models-state').textContent = error.message;
    }
  };
  form.addEventListener('change', choose);
  form.addEventListener('submit', choose);
  byId('model-button').hidden = true;
}

// ---- what is being answered ----

let feed = null; // an AbortController while there is a feed
let sample = null;
let ahead = 0; // seconds by which the service's clock is ahead of ours
let failures = 0;
let again = 0;

const seconds = (value) => (value < 100 ? `${value.toFixed(1)} s` : `${Math.round(value)} s`);

function describe(found) {
  if (found.total === 0) return found.silent ? silence(found) : 'Nothing at the moment';
  const more = found.total > found.rows.length ? `, the oldest ${found.rows.length} shown` : '';
  const count = found.total === 1 ? '1 answer' : `${found.total} answers`;
  return `${count}${more}${found.silent ? `; ${silence(found)}` : ''}`;
}

function silence(found) {
  return found.silent === 1 ? '1 worker does not say' : `${found.silent} workers do not say`;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function newRow(id) {
  const row = element('tr');
  row.dataset.id = id;
  const model = cell(row);
  model.append(element('code'), element('span', 'quiet'));
  const phase = cell(row);
  phase.append(element('span', 'phase'), ' ', element('span', 'detail'));
  cell(row, 'number age', '', 'for');
  cell(row, 'number first', '', 'first');
  cell(row, 'number speed', '');
  cell(row, 'number tokens', '');
  return row;
}

function fillRow(row, one) {
  setText(row.querySelector('code'), one.model || '(no model)');
  const notes = [one.client, one.upstream];
  if (one.retries) notes.push(`${one.retries} ${one.retries === 1 ? 'retry' : 'retries'}`);
  if (one.notices) notes.push(`${one.notices} ${one.notices === 1 ? 'notice' : 'notices'}`);
  setText(row.querySelector('.quiet'), notes.filter(Boolean).join(' · '));
  const phase = row.querySelector('.phase');
  phase.className = `phase ${one.phase || 'waiting'}`;
  setText(phase, one.phase || 'waiting');
  setText(row.querySelector('.detail'), one.detail || '');
  const age = Math.max(0, Date.now() / 1000 + ahead - one.at);
  setText(row.querySelector('.age'), seconds(age));
  const first = one.first_s;
  setText(row.querySelector('.first'), first === undefined ? '' : seconds(first));
  const tokens = one.tokens || 0;
  setText(row.querySelector('.tokens'), tokens ? `~${tokens} tokens` : '');
  const spent = first === undefined ? 0 : age - first;
  setText(row.querySelector('.speed'), tokens && spent >= 1 ? `~${Math.round(tokens / spent)} tok/s` : '');
}

function draw() {
  if (sample === null) return;
  const rows = byId('live-rows');
  const known = new Map([...rows.children].map((row) => [row.dataset.id, row]));
  const wanted = sample.rows.map((one) => {
    const row = known.get(one.id) || newRow(one.id);
    known.delete(one.id);
    fillRow(row, one);
    return row;
  });
  for (const row of known.values()) row.remove();
  wanted.forEach((row, place) => {
    if (rows.children[place] !== row) rows.insertBefore(row, rows.children[place] || null);
  });
  byId('live-table').hidden = wanted.length === 0;
  setText(byId('live-state'), describe(sample));
}

function received(text) {
  sample = JSON.parse(text);
  ahead = sample.now - Date.now() / 1000;
  draw();
}

async function follow(controller) {
  const answer = await fetch('/page/live', {
    headers: headers(), signal: controller.signal, cache: 'no-store',
  });
  if (!answer.ok) {
    const problem = new Error(await problemOf(answer));
    problem.lasting = answer.status < 500;
    throw problem;
  }
  failures = 0;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (pending + value).split('\n\n');
    pending = parts.pop();
    const last = parts.filter((part) => part.startsWith('data: ')).pop();
    if (last !== undefined) received(last.slice(6));
  }
}

async function watch() {
  clearTimeout(again);
  if (feed !== null || live !== 'open' || document.hidden) return;
  const controller = new AbortController();
  feed = controller;
  let said = 'The service does not answer; trying again …';
  try {
    await follow(controller);
    said = '';
  } catch (error) {
    if (controller.signal.aborted) return;
    if (error.lasting) live = 'none';
    if (error.lasting !== undefined) said = error.message;
  } finally {
    if (feed === controller) feed = null;
  }
  if (said) {
    sample = null;
    byId('live-rows').replaceChildren();
    byId('live-table').hidden = true;
    setText(byId('live-state'), said);
  }
  if (live === 'open') again = setTimeout(watch, RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)]);
}

function stopWatching() {
  clearTimeout(again);
  if (feed !== null) feed.abort();
  feed = null;
}

function prepareLive() {
  document.addEventListener('visibilitychange', () => (document.hidden ? stopWatching() : watch()));
  addEventListener('pagehide', stopWatching);
  addEventListener('pageshow', watch);
  setInterval(() => { if (!document.hidden && sample !== null && sample.rows.length) draw(); }, 1000);
  const refresh = byId('live-refresh');
  if (refresh !== null && live === 'open') refresh.hidden = true;
  watch();
}

// ---- the key ----

function prepareKey() {
  const form = byId('key-form');
  if (form === null) return;
  form.hidden = false;
  byId('no-script').hidden = true;
  const problem = byId('key-problem');
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    stopWatching();
    key = byId('key').value.trim();
    setText(problem, '');
    try {
      await loadContent('');
    } catch (error) {
      setText(problem, error.message);
      return;
    }
    byId('key').value = '';
    setText(byId('key-note'), 'The key is in use until this page is closed or loaded again.');
    live = 'open';
    watch();
  });
}

showOwnAddress();
prepareCopying();
prepareModels();
prepareKey();
prepareLive();
