/** Reviews on their way to the server. None is dropped until the server has saved it. */

import { RefusedError, saveReview } from "./api.js";
import { load, store } from "./storage.js";

const DELAYS = [1000, 2000, 4000, 8000]; // ms between attempts; the last repeats
const TEMPORARY = [408, 429, 500, 502, 503, 504];
const FORGOTTEN = [401, 409]; // the server does not know who reviews

/** Sends reviews in their order, and again after failures. */
export class Outbox {
  /**
   * @param {string} reviewer Whose reviews these are.
   * @param {function} signIn Signs the reviewer in again, if the server has forgotten them.
   * @param {function} onchange Called with every change.
   */
  constructor(reviewer, signIn, onchange) {
    this.name = `unsent:${reviewer}`;
    this.waiting = load(this.name, []);
    this.refused = []; // {review, message}
    this.problem = null; // why sending fails at present
    this.signIn = signIn;
    this.onchange = onchange;
    this.attempts = 0;
    this.timer = 0;
    this.isSending = false;
    window.addEventListener("online", () => this.send());
  }

  /** Take a review, store it in the browser, and send it. */
  add(review) {
    const entry = { ...review, id: crypto.getRandomValues(new Uint32Array(2)).join("-") };
    this.waiting.push(entry);
    this.isStored = store(this.name, [...load(this.name, []), entry]);
    this.onchange();
    this.send();
  }

  /** The unsent review of a class of a recording, if there is one. */
  find(record, className) {
    return this.waiting.findLast((review) => review.record === record && review.class === className);
  }

  /** Send all that wait, one after another. */
  async send() {
    if (this.isSending) return;
    clearTimeout(this.timer);
    this.isSending = true;
    try {
      while (this.waiting.length) {
        const [first] = this.waiting;
        try {
          const { id, ...review } = first;
          const saved = await this.submit(review);
          this.forget(id);
          this.problem = null;
          this.attempts = 0;
          this.onchange(saved);
        } catch (error) {
          if (error instanceof RefusedError && !TEMPORARY.includes(error.status) && !FORGOTTEN.includes(error.status)) {
            this.refused.push({ review: first, message: error.message });
            this.forget(first.id);
            this.onchange();
            continue;
          }
          this.problem = error.message;
          this.timer = setTimeout(() => this.send(), DELAYS[Math.min(this.attempts++, DELAYS.length - 1)]);
          this.onchange();
          return;
        }
      }
    } finally {
      this.isSending = false;
    }
  }

  async submit(review) {
    try {
      return await saveReview(review);
    } catch (error) {
      if (!(error instanceof RefusedError) || !FORGOTTEN.includes(error.status)) throw error;
      await this.signIn();
      return saveReview(review);
    }
  }

  forget(id) {
    this.waiting = this.waiting.filter((review) => review.id !== id);
    const stored = load(this.name, []); // another tab may have added some
    store(
      this.name,
      stored.filter((review) => review.id !== id),
    );
  }

  /** Remove a refused review, after the user has seen it. */
  discard(refusal) {
    this.refused = this.refused.filter((item) => item !== refusal);
    this.onchange();
  }
}
