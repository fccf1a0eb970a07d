/** Recordings in memory: the open one, and the next one ahead of time. */

import { getExplanation, getRecording, getSignal } from "./api.js";
import { readFacts } from "./facts.js";

const KEPT = 6; // recordings
const LONGEST_AHEAD = 300; // s; longer recordings are not loaded ahead

/** A small cache of promises by record and kind. */
export class Loader {
  constructor() {
    this.entries = new Map();
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

  signal(record, kind) {
    return this.fetch(`${kind} ${record}`, () => getSignal(record, kind));
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
