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

/** A lead: its samples, their unit, and a pyramid of minima and maxima that is built when first needed. */
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

  /** Return the level whose blocks have at most this number of samples, or null if the samples themselves serve. */
  level(samplesPerPixel) {
    if (samplesPerPixel < 2 * FACTOR) return null;
    this.levels ??= buildLevels(this.samples);
    let chosen = null;
    for (const level of this.levels) if (level.size * 2 <= samplesPerPixel) chosen = level;
    return chosen;
  }
}

function buildLevels(samples) {
  const levels = [];
  let low = samples;
  let high = samples;
  for (let size = FACTOR; samples.length / size > 64; size *= FACTOR) {
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
    levels.push({ size, low: nextLow, high: nextHigh });
    [low, high] = [nextLow, nextHigh];
  }
  return levels;
}

/** Decode the server's answer: little-endian int16, lead after lead. */
export function decodeSignal(buffer, headers) {
  const names = splitNames(headers.get("X-Leads"));
  const units = splitNames(headers.get("X-Microvolts-Per-Unit")).map(Number);
  const frequency = Number(headers.get("X-Frequency"));
  const length = Number(headers.get("X-Samples"));
  if (!(frequency > 0) || !(length >= 0) || buffer.byteLength !== 2 * names.length * length) {
    throw new Error("The signal is not as long as the server says.");
  }
  const traces = names.map(
    (name, row) => new Trace(name, new Int16Array(buffer, 2 * row * length, length), units[row] ?? units[0] ?? 1),
  );
  return { traces, frequency, length, seconds: length / frequency };
}
