/** Signals of many hours: an envelope in memory, and windows of samples that are loaded when they are looked at. */

import { INVALID, buildLevels } from "./signal.js";

const ENTRIES = 65536; // samples or blocks of a lead in a window, as the server sends them at most
const FINE = 16; // samples in a block of windows that show some minutes
const KEPT = 24; // windows; one of twelve leads has at most 3 MB
const AT_ONCE = 2; // windows that are being loaded
const RETRY = 3000; // ms until a window that could not be loaded is asked for again
const TYPICAL = 0.995; // share of the blocks for whose deflection there is space on the paper

/** Return the blocks of a lead in the answer of the server: minima, then maxima; samples are both. */
function splitBlocks(values, block) {
  if (block === 1) return [values, values];
  return [values.subarray(0, values.length / 2), values.subarray(values.length / 2)];
}

/** Return a deflection in mV that few blocks exceed, of the lowest (-1) or the highest (1) samples. */
function findDeflection(values, sign, millivolts) {
  if (!values.length) return 0;
  const value = values.slice().sort()[Math.floor((values.length - 1) * (sign > 0 ? TYPICAL : 1 - TYPICAL))];
  return Math.max(0, sign * value * millivolts);
}

/** A lead of a long recording, with the methods of `Trace`. */
class LongTrace {
  constructor(signal, row, { name, values, microvolts }, block) {
    this.signal = signal;
    this.row = row;
    this.name = name;
    this.millivolts = microvolts / 1000;
    this.median = 0; // the server has subtracted it
    const [low, high] = splitBlocks(values, block);
    const isValid = (_, index) => high[index] !== INVALID;
    this.deepest = findDeflection(low.filter(isValid), -1, this.millivolts);
    this.highest = findDeflection(high.filter(isValid), 1, this.millivolts);
    this.envelope = { size: block, start: 0, low, high };
    this.levels = null;
  }

  read(first, last, samplesPerPixel) {
    const size = this.signal.chooseSize(samplesPerPixel);
    return size ? this.signal.join(this.row, size, Math.max(0, first), last) : this.readCoarse(samplesPerPixel);
  }

  readCoarse(samplesPerPixel) {
    this.levels ??= [this.envelope, ...buildLevels(this.envelope)];
    return this.levels.findLast((level) => level.size * 2 <= samplesPerPixel) ?? this.envelope;
  }
}

/** A long recording. */
export class LongSignal {
  /**
   * @param {object} envelope What `decodeSignal` returns.
   * @param {function} load Loads the window of a first sample, a number of samples, and a number of samples in a block.
   */
  constructor({ leads, block, ...facts }, load) {
    Object.assign(this, facts);
    this.block = block;
    this.load = load;
    this.traces = leads.map((lead, row) => new LongTrace(this, row, lead, block));
    this.windows = new Map(); // by block and index
    this.wanted = []; // the last one first
    this.loading = new Set();
    this.isLong = true;
    this.onload = null; // called with each window that has come
  }

  /** Forget all windows, and load no more. */
  release() {
    this.onload = null;
    this.wanted = [];
    this.windows.clear();
  }

  /** Return the samples in a block of the windows that serve a number of samples per pixel, 0 if the envelope does. */
  chooseSize(samplesPerPixel) {
    if (samplesPerPixel >= 2 * this.block) return 0;
    return samplesPerPixel >= 2 * FINE ? FINE : 1;
  }

  /**
   * Return the blocks of a lead between two samples; those that are not there yet are invalid, and are loaded.
   *
   * As many before and after them are loaded, too, if nothing else is to be loaded.
   */
  join(row, size, first, last) {
    const [begin, end] = [Math.floor(first / size), Math.floor(Math.min(last, this.length - 1) / size) + 1];
    for (const entry of [2 * begin - end, 2 * end - begin])
      if (entry >= 0 && entry * size < this.length) this.find(size, Math.floor(entry / ENTRIES));
    const low = new Int16Array(Math.max(0, end - begin)).fill(INVALID);
    const high = size === 1 ? low : low.slice();
    for (let index = Math.floor(begin / ENTRIES); index * ENTRIES < end; index++) {
      const loaded = this.find(size, index);
      if (!loaded) continue;
      const [lows, highs] = splitBlocks(loaded.leads[row].values, size);
      const from = Math.max(begin, index * ENTRIES);
      const part = [from - index * ENTRIES, Math.min(end - index * ENTRIES, lows.length)];
      low.set(lows.subarray(...part), from - begin);
      if (size > 1) high.set(highs.subarray(...part), from - begin);
    }
    return { size, start: begin, low, high };
  }

  /** Return the intervals of time between two samples of which no window is there, in s. */
  *missing(samplesPerPixel, first, last) {
    const size = this.chooseSize(samplesPerPixel);
    if (!size) return;
    const samples = ENTRIES * size;
    for (let index = Math.floor(Math.max(0, first) / samples); index * samples <= last; index++)
      if (index * samples < this.length && !this.windows.has(`${size} ${index}`))
        yield [(index * samples) / this.frequency, Math.min((index + 1) * samples, this.length) / this.frequency];
  }

  /** Return a window, or null if it is not there; then it is loaded. */
  find(size, index) {
    const key = `${size} ${index}`;
    const loaded = this.windows.get(key);
    if (loaded) {
      this.windows.delete(key);
      this.windows.set(key, loaded); // the last one that was used
      return loaded;
    }
    if (!this.loading.has(key) && this.onload) {
      this.wanted = [{ key, size, index }, ...this.wanted.filter((window) => window.key !== key)].slice(0, KEPT / 4);
      queueMicrotask(() => this.loadNext());
    }
    return null;
  }

  async loadNext() {
    if (this.loading.size >= AT_ONCE || !this.wanted.length) return;
    const { key, size, index } = this.wanted.shift();
    this.loading.add(key);
    let isLoaded = false;
    try {
      const window = await this.load(index * ENTRIES * size, ENTRIES * size, size);
      if (!this.onload) return;
      this.windows.set(key, window);
      while (this.windows.size > KEPT) this.windows.delete(this.windows.keys().next().value);
      isLoaded = true;
    } catch {
      // What is missing stays grey, and is asked for again by the next drawing.
    } finally {
      this.loading.delete(key);
      if (isLoaded) this.onload?.();
      else setTimeout(() => this.onload?.(), RETRY);
      this.loadNext();
    }
  }
}
