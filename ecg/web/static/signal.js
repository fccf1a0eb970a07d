/** Signals in memory: decoding, and minima and maxima of blocks for drawing few pixels of many samples. */

export const INVALID = -32768; // marks an invalid sample
const FACTOR = 8; // blocks of a level in one of the next
const SAMPLED = 2001; // values of which the median is taken

/** Return the names in a header's comma list, each percent-encoded or plain. */
export function splitNames(text) {
  return (text ?? "").split(",").map((name) => {
    try {
      return decodeURIComponent(name.trim());
    } catch {
      return name.trim();
    }
  });
}

/** Return the smallest and the largest valid sample of a lead, [0, 0] if there is none. */
function findExtremes(samples) {
  let low = 32767;
  let high = INVALID;
  for (const value of samples) {
    if (value === INVALID) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return high === INVALID ? [0, 0] : [low, high];
}

/** Return the median of the valid samples of a lead, of evenly spaced ones if there are many. */
function findMedian(samples) {
  const step = Math.max(1, Math.floor(samples.length / SAMPLED));
  const values = new Int16Array(Math.ceil(samples.length / step));
  let count = 0;
  for (let index = 0; index < samples.length; index += step)
    if (samples[index] !== INVALID) values[count++] = samples[index];
  return count ? values.subarray(0, count).sort()[count >> 1] : 0;
}

/**
 * A lead: its samples, their unit, and a pyramid of minima and maxima that is built when first needed.
 *
 * Samples are given to others as blocks: `low` and `high` of each, the number of samples in a block as `size`, and the
 * number of blocks before the first one as `start`. A block without a valid sample has INVALID as `high`.
 */
export class Trace {
  constructor(name, samples, microvolts) {
    this.name = name;
    this.samples = samples;
    this.millivolts = microvolts / 1000; // in one unit
    this.median = findMedian(samples);
    const [low, high] = findExtremes(samples);
    this.deepest = (this.median - low) * this.millivolts; // below the baseline, in mV
    this.highest = (high - this.median) * this.millivolts;
    this.levels = null;
  }

  /** Return the blocks that serve a number of samples per pixel, at least those between two samples. */
  read(first, last, samplesPerPixel) {
    return this.readCoarse(samplesPerPixel) ?? { size: 1, start: 0, low: this.samples, high: this.samples };
  }

  /** Return the blocks of the whole recording that have at most half of these samples, or null if none are so small. */
  readCoarse(samplesPerPixel) {
    if (samplesPerPixel < 2 * FACTOR) return null;
    this.levels ??= buildLevels({ size: 1, low: this.samples, high: this.samples });
    return this.levels.findLast((level) => level.size * 2 <= samplesPerPixel) ?? null;
  }
}

/** Return levels of a pyramid, each with larger blocks than the one before. */
export function buildLevels({ size, low, high }) {
  const levels = [];
  while (low.length > 64 * FACTOR) {
    const length = Math.ceil(low.length / FACTOR);
    const nextLow = new Int16Array(length);
    const nextHigh = new Int16Array(length);
    for (let block = 0; block < length; block++) {
      let smallest = 32767;
      let largest = INVALID;
      const end = Math.min(low.length, (block + 1) * FACTOR);
      for (let index = block * FACTOR; index < end; index++) {
        if (high[index] === INVALID) continue;
        if (low[index] < smallest) smallest = low[index];
        if (high[index] > largest) largest = high[index];
      }
      nextLow[block] = smallest;
      nextHigh[block] = largest; // INVALID if no sample of the block is valid
    }
    size *= FACTOR;
    levels.push({ size, start: 0, low: nextLow, high: nextHigh });
    [low, high] = [nextLow, nextHigh];
  }
  return levels;
}

/**
 * Decode the server's answer: little-endian int16, lead after lead.
 *
 * A lead is its samples, or the minima and then the maxima of its blocks.
 */
export function decodeSignal(buffer, headers) {
  const names = splitNames(headers.get("X-Leads"));
  const units = splitNames(headers.get("X-Microvolts-Per-Unit")).map(Number);
  const frequency = Number(headers.get("X-Frequency"));
  const length = Number(headers.get("X-Samples"));
  const block = Number(headers.get("X-Block") ?? 1);
  const entries = Math.ceil(length / block) * (block > 1 ? 2 : 1);
  if (!(frequency > 0) || !(length >= 0) || buffer.byteLength !== 2 * names.length * entries) {
    throw new Error("The signal is not as long as the server says.");
  }
  const leads = names.map((name, row) => ({
    name,
    values: new Int16Array(buffer, 2 * row * entries, entries),
    microvolts: units[row] ?? units[0] ?? 1,
  }));
  return { leads, block, frequency, length, seconds: length / frequency };
}

/** Return a signal that is in memory as a whole. */
export function buildSignal({ leads, ...facts }) {
  return { ...facts, traces: leads.map(({ name, values, microvolts }) => new Trace(name, values, microvolts)) };
}
