// localStorage and sessionStorage of a browser may be full or switched off: the page then forgets, and works.

// `area` is "localStorage" (all tabs, for ever) or "sessionStorage" (this tab).
export function read(name, area = "localStorage") {
  try {
    const text = globalThis[area].getItem(`fulgurite.${name}`);
    return text === null ? null : JSON.parse(text);
  } catch {
    return null;
  }
}

export function write(name, value, area = "localStorage") {
  try {
    globalThis[area].setItem(`fulgurite.${name}`, JSON.stringify(value));
  } catch {
    // Nothing to do: what was chosen lasts as long as the tab.
  }
}

// theme.js reads these two before the modules are loaded, as plain words.
export function readWord(name) {
  try {
    return localStorage.getItem(`fulgurite.${name}`) ?? "";
  } catch {
    return "";
  }
}

export function writeWord(name, value) {
  try {
    if (value) localStorage.setItem(`fulgurite.${name}`, value);
    else localStorage.removeItem(`fulgurite.${name}`);
  } catch {
    // As above.
  }
}
