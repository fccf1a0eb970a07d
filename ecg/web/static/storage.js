/** What this browser remembers: settings, and reviews that the server has not yet saved. */

const PREFIX = "ecg-workbench";
const memory = new Map(); // if the browser does not store anything

/** Return what is stored under a name, or a default. */
export function load(name, fallback) {
  try {
    return JSON.parse(localStorage.getItem(`${PREFIX}:${name}`)) ?? fallback;
  } catch {
    return memory.get(name) ?? fallback;
  }
}

/** Store a value; whether it will outlive the page. */
export function store(name, value) {
  memory.set(name, value);
  try {
    localStorage.setItem(`${PREFIX}:${name}`, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

const DEFAULTS = {
  layout: "3x4",
  speed: 25,
  gain: 10,
  kind: "raw",
  isTrueSize: false,
  pixelsPerMm: 96 / 25.4,
  theme: "system",
  goesOn: false,
  showsEvidence: false,
  method: null,
};

/** Settings that are stored whenever they change. */
export const settings = { ...DEFAULTS, ...load("settings", {}) };

/** Change settings and store them. */
export function changeSettings(changes) {
  Object.assign(settings, changes);
  store("settings", settings);
}
