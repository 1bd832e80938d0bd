// Finds parameters and options by their names here, their names in other tools, and their texts.

const NAME = 100;
const TITLE = 40;
const SYNONYM = 30;
const TEXT = 1;

function scoreWord(word, {path, title, names, search}) {
  const last = path.split(".").pop();
  if (path === word || last === word || names.includes(word)) return NAME;
  if (path.includes(word)) return TITLE + 5;
  if (title.includes(word)) return TITLE;
  if (names.some((name) => name.includes(word))) return SYNONYM;
  return search.includes(word) ? TEXT : 0;
}

// Every word of the query must be found; a name counts more than a text. 0: not found.
export function score(query, entry) {
  const words = splitQuery(query);
  let sum = 0;
  for (const word of words) {
    const one = scoreWord(word, entry);
    if (!one) return 0;
    sum += one;
  }
  return sum;
}

// `optim.lr=1e-4` and `--learning_rate` are taken for the name in them.
export function splitQuery(query) {
  return query.toLowerCase().split(/[\s,，]+/).map((word) => word.replace(/^[-+]+/, "").replace(/=.*$/,
    "")).filter(Boolean);
}

function toEntry(path, title, card) {
  return {
    path: path.toLowerCase(), title: (title ?? "").toLowerCase(), search: (card?.search ?? "").toLowerCase(),
    names: (card?.names ?? []).map(([, name]) => name.toLowerCase()),
  };
}

// The rows of this run that are found, best first.
export function searchRows(query, rows, findCard) {
  const found = rows.map((row, index) => ({row, index, points: score(query,
    toEntry(row.path, row.title, findCard(row)))}));
  return found.filter(({points}) => points).sort((one, two) => two.points - one.points
    || one.index - two.index).map(({row}) => row);
}

// Parameters that are found but belong to options that this run does not use.
export function searchElsewhere(query, cards, rows) {
  const here = new Set(rows.map((row) => row.path));
  const found = [];
  for (const [path, all] of Object.entries(cards?.cards ?? {})) {
    if (here.has(path)) continue;
    const points = Math.max(...all.map((card) => score(query, toEntry(path, card.title, card))));
    if (points) found.push({path, cards: all, points});
  }
  return found.sort((one, two) => two.points - one.points);
}

export function searchOptions(query, cards) {
  const found = [];
  for (const group of cards?.groups ?? []) {
    for (const option of group.options) {
      const search = `${group.name} ${group.title} ${option.about}`.toLowerCase();
      const names = [...(option.names ?? []), ...(group.names ?? [])].flat().map((name) => String(name).toLowerCase());
      const points = score(query, {path: option.name.toLowerCase(), title: group.title.toLowerCase(), names, search});
      if (points >= SYNONYM) found.push({group, option, points});
    }
  }
  return found.sort((one, two) => two.points - one.points);
}
