document.documentElement.classList.add('scripted');
const $ = id => document.getElementById(id);
const stored = JSON.parse($('answers').textContent);

// The first screen: three radio groups choose an answer, whose pieces are in the page already.
const form = document.querySelector('.ask');
const slots = [...document.querySelectorAll('[data-slot]')];
function answer() {
  const chosen = new FormData(form);
  const numbers = stored.answers[chosen.get('data')][chosen.get('machine')][chosen.get('size')];
  const [stage, method, rate, reason, times, batch, words] = numbers.map(i => stored.pieces[i]);
  // A function, because `$` in a replacement text has a meaning of its own.
  const parts = [stage, method, rate.replace('§', () => reason) + times + batch];
  parts.forEach((html, i) => { slots[i].innerHTML = html; });
  document.querySelectorAll('[data-words]').forEach(slot => { slot.innerHTML = words; });
}
form.addEventListener('change', answer);
// A browser that goes back to the page restores the radio buttons, without a change event.
addEventListener('pageshow', answer);

addEventListener('click', event => {
  const button = event.target.closest('.copy button');
  if (!button) return;
  const pre = button.previousElementSibling, range = document.createRange();
  // Selected in any case: a page of a file has no clipboard in some browsers.
  range.selectNodeContents(pre);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  button.dataset.was = button.dataset.was || button.textContent;
  if (!navigator.clipboard) return;
  navigator.clipboard.writeText(pre.textContent).then(() => {
    button.textContent = '✓';
    setTimeout(() => { button.textContent = button.dataset.was; }, 900);
  });
});

// Search: every word must occur; names count more than texts.
const field = $('ask');
const clean = text => text.toLowerCase().replace(/[-\s]+/g, ' ').trim();
const parts = text => clean(text).split(' ').filter(Boolean);
const spaced = text => text.replace(/[_.]/g, ' ');
const items = [...document.querySelectorAll('.hit')].map(h => {
  const group = h.classList.contains('group'), head = h.querySelector('summary,h4');
  const title = (head.querySelector('b,h3') || head).textContent.trim(), path = h.id;
  const alias = (h.dataset.names || '').split('|').filter(Boolean);
  return {
    h, title, path, alias,
    names: clean([title, path, ...alias].join(' ')),
    text: clean((group ? head : h).textContent),
    body: h.querySelector('p')?.textContent || '',
  };
});
const lastPart = path => path.split(/[.=]/).pop();

function scoreWord(item, word) {
  const bare = word.replace(/_/g, ' '), list = item.names.split(' ');
  if (list.includes(word)) return 8;
  if (list.some(name => name.startsWith(word))) return 5;
  if (item.names.includes(word) || spaced(item.names).includes(bare)) return 4;
  return item.text.includes(word) || spaced(item.text).includes(bare) ? 1 : 0;
}

function score(item, words, whole) {
  const exact = name => clean(name).replace(/_/g, ' ') === whole;
  const each = words.map(word => scoreWord(item, word));
  if (each.includes(0)) return 0;
  // The whole text as a name of ours, or as another trainer's, is ahead of all that only contains its words.
  const own = [item.title, item.path, lastPart(item.path)].some(exact) ? 20 : item.alias.some(exact) ? 15 : 0;
  const sum = own * words.length + each.reduce((a, b) => a + b, 0);
  // A parameter (`optim.lr`) is ahead of an option (`optim=adamw`) of the same score.
  return sum / words.length + (/^[a-z_.]+$/.test(item.path) ? 3 : 0);
}

// Likeness of a misspelt name: Dice's coefficient of the pairs of neighbouring letters.
const pairs = text => {
  const padded = ' ' + spaced(text) + ' ', out = new Map();
  for (let i = 0; i < padded.length - 1; i++) {
    const pair = padded.slice(i, i + 2);
    out.set(pair, (out.get(pair) || 0) + 1);
  }
  return out;
};
function alike(a, b) {
  const x = pairs(a), y = pairs(b);
  let both = 0, all = 0;
  x.forEach((count, pair) => { both += Math.min(count, y.get(pair) || 0); all += count; });
  y.forEach(count => { all += count; });
  return 2 * both / all;
}
function near(text) {
  const out = [];
  for (const item of items) {
    const names = [item.title, lastPart(item.path), ...item.alias].map(clean).filter(Boolean);
    const best = Math.max(...names.map(name => alike(text, name)));
    if (best >= .62) out.push([best, item]);
  }
  return out.sort((a, b) => b[0] - a[0]).slice(0, 3);
}

function makeHit(item) {
  const [li, a, code, small] = ['li', 'a', 'code', 'small'].map(name => document.createElement(name));
  a.href = '#';
  a.dataset.index = items.indexOf(item);
  a.append(item.title + ' ');
  code.textContent = item.path;
  if (item.title !== item.path) a.append(code);
  small.textContent = item.body.length > 150 ? item.body.slice(0, 150) + '…' : item.body;
  a.append(small);
  li.append(a);
  return li;
}
function show(list) {
  $('hits').replaceChildren(...list.map(([, item]) => makeHit(item)));
}
function find() {
  const words = parts(field.value), whole = clean(field.value).replace(/_/g, ' ');
  $('found').hidden = !words.length;
  if (!words.length) return;
  const scored = items.map(item => [score(item, words, whole), item]).filter(pair => pair[0] > 0);
  const list = scored.sort((a, b) => b[0] - a[0]).slice(0, 30);
  const guess = list.length ? [] : near(clean(field.value));
  $('near').hidden = !guess.length;
  $('none').hidden = !!(list.length || guess.length);
  show(list.length ? list : guess);
}

// A target inside closed chapters cannot be scrolled to: all around it is opened first.
function open(element) {
  for (let node = element; node; node = node.parentElement) if (node.tagName === 'DETAILS') node.open = true;
  element.scrollIntoView();
}
$('hits').addEventListener('click', event => {
  const a = event.target.closest('a');
  if (!a) return;
  event.preventDefault();
  const item = items[a.dataset.index];
  field.value = '';
  find();
  if (item.path) history.pushState(null, '', '#' + item.path);
  open(item.h);
  item.h.querySelector('summary')?.focus({preventScroll: true});
});

// Keys: / goes to the search, Enter opens the first hit, the arrows move among the hits, Escape ends.
field.addEventListener('input', find);
field.addEventListener('keydown', event => {
  const first = $('hits').querySelector('a');
  if (event.key === 'Escape') {
    field.value = '';
    find();
  } else if (event.key === 'Enter') {
    event.preventDefault();
    first?.click();
  } else if (event.key === 'ArrowDown') {
    event.preventDefault();
    first?.focus();
  }
});
$('hits').addEventListener('keydown', event => {
  const li = document.activeElement.parentElement;
  const to = {ArrowDown: li?.nextElementSibling, ArrowUp: li?.previousElementSibling}[event.key];
  if (to) {
    event.preventDefault();
    to.firstElementChild.focus();
  } else if (event.key === 'Escape' || event.key === 'ArrowUp') field.focus();
});
addEventListener('keydown', event => {
  const typing = /INPUT|TEXTAREA/.test(document.activeElement.tagName);
  if (event.key !== '/' || event.ctrlKey || event.metaKey || typing) return;
  event.preventDefault();
  field.focus();
  field.select();
});

function go() {
  const element = $(decodeURIComponent(location.hash.slice(1)));
  if (element) open(element);
}
addEventListener('hashchange', go);
// A second click on the same link changes no address, and so is no hashchange.
addEventListener('click', event => {
  const a = event.target.closest('a[href^="#"]');
  if (a && a.hash === location.hash && !a.dataset.index) go();
});
if (location.hash) go();
