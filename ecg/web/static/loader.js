/** Recordings in memory: the open one, and the next one ahead of time. */

import { TOO_LARGE, getExplanation, getRecording, getSignal } from "./api.js";
import { readFacts } from "./facts.js";

const KEPT = 6; // recordings
const MOST_SAMPLES = 30_000_000; // in all signals, two bytes each
const LONGEST_AHEAD = 300; // s; longer recordings are not loaded ahead

/** A small cache of promises by record and kind. */
export class Loader {
  constructor() {
    this.entries = new Map();
    this.samples = new Map(); // number of all leads, by key
  }

  fetch(key, get) {
    const entry = this.entries.get(key) ?? get();
    this.entries.delete(key);
    this.entries.set(key, entry);
    while (this.entries.size > 3 * KEPT) this.entries.delete(this.entries.keys().next().value);
    entry.catch(() => this.entries.get(key) === entry && this.entries.delete(key));
    return entry;
  }

  facts(record) {
    return this.fetch(`facts ${record}`, async () => readFacts(await getRecording(record)));
  }

  /** Return a signal; the server filters no long one, which is then as recorded. */
  signal(record, kind) {
    const key = `${kind} ${record}`;
    const entry = this.fetch(key, async () => {
      try {
        return await getSignal(record, kind);
      } catch (error) {
        if (error.status !== TOO_LARGE || kind === "raw") throw error;
        return this.signal(record, "raw");
      }
    });
    entry.then(
      (signal) => this.limitSamples(key, signal),
      () => {}, // who waits for the signal reports the error
    );
    return entry;
  }

  /** Forget the signals that were used first, if all of them have too many samples. */
  limitSamples(key, signal) {
    if (this.entries.has(key)) this.samples.set(key, signal.length * signal.traces.length);
    const keys = [...this.entries.keys()].filter((name) => this.samples.has(name));
    let total = keys.reduce((sum, name) => sum + this.samples.get(name), 0);
    for (const name of keys) {
      if (total <= MOST_SAMPLES || name === key) continue;
      total -= this.samples.get(name);
      this.entries.delete(name);
    }
    for (const name of this.samples.keys()) if (!this.entries.has(name)) this.samples.delete(name);
  }

  /** Return an explanation; a request that is aborted by the signal leaves no trace. */
  explanation(record, className, method, signal) {
    const key = `${method} ${className} ${record}`;
    signal.addEventListener("abort", () => this.entries.delete(key));
    return this.fetch(key, () => getExplanation(record, className, method, { signal }));
  }

  /** Forget the facts of a recording, after a review or while its prediction is awaited. */
  forgetFacts(record) {
    this.entries.delete(`facts ${record}`);
  }

  /** Load a recording that will probably be opened next. */
  async loadAhead(record, kind) {
    try {
      const facts = await this.facts(record);
      if (!(facts.seconds > LONGEST_AHEAD)) await this.signal(record, kind);
    } catch {
      // It is loaded again, and its error shown, when it is opened.
    }
  }
}
