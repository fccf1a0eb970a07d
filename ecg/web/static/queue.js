/** The order of the recordings: the list's, kept while one goes through it. */

import { getRecordings } from "./api.js";

const PAGE = 100;

/** Recordings of a query in the order in which they were first listed. */
export class Queue {
  constructor(query = {}, start = 0) {
    this.query = query;
    this.start = start; // recordings of the list before the first one here
    this.items = [];
    this.total = 0;
    this.names = new Map(); // position by record
  }

  /** Take a page of the list that was just shown. */
  take({ total, items }) {
    this.total = Math.max(total, this.items.length);
    for (const item of items) this.add(item);
  }

  add(item) {
    if (this.names.has(item.record)) return false;
    this.names.set(item.record, this.items.length);
    this.items.push(item);
    return true;
  }

  position(record) {
    return this.names.get(record) ?? -1;
  }

  /** Note that a recording was reviewed, so that it is left out by a filter for those that are not. */
  markReviewed(record) {
    const item = this.items[this.position(record)];
    if (item) item.reviewed_by_me = Math.max(1, item.reviewed_by_me);
  }

  /** Return the record after or before another, or null at the end of the list. */
  async neighbour(record, step) {
    let position = this.position(record);
    if (position < 0) {
      await this.extend();
      position = this.position(record);
      if (position < 0) return this.items[0]?.record === record ? null : (this.items[0]?.record ?? null);
    }
    if (position + step >= this.items.length) await this.extend();
    if (position + step < 0 && this.start > 0) {
      await this.prepend();
      position = this.position(record);
    }
    return this.items[position + step]?.record ?? null;
  }

  /** Load the page before the first recording. */
  async prepend() {
    const offset = Math.max(0, this.start - PAGE);
    const page = await getRecordings({ ...this.query, offset, limit: this.start - offset });
    this.items.unshift(...page.items.filter((item) => !this.names.has(item.record)));
    this.names = new Map(this.items.map((item, position) => [item.record, position]));
    this.start = offset;
  }

  /**
   * Load recordings that are not here yet, if there are any.
   *
   * The order changes while predictions come in: later pages are read if one brings nothing new, and then the earlier
   * ones, to which recordings may have moved. Reviewed recordings no longer count in a list of those that are not.
   */
  async extend() {
    const counted = this.query.unreviewed ? this.items.filter((item) => !item.reviewed_by_me) : this.items;
    const last = this.start + counted.length;
    if (await this.loadPages(last, Infinity)) return;
    if (this.start + this.items.length < this.total) await this.loadPages(this.start, last);
  }

  /** Load pages between two offsets until one has a recording that is not here yet; whether there was one. */
  async loadPages(offset, end) {
    let isAdded = false;
    let isLast = offset >= end;
    while (!isAdded && !isLast) {
      const { total, items } = await getRecordings({ ...this.query, offset, limit: PAGE });
      isAdded = items.map((item) => this.add(item)).some(Boolean);
      this.total = Math.max(this.items.length, this.query.unreviewed ? this.total : total);
      offset += items.length;
      isLast = !items.length || offset >= Math.min(total, end);
    }
    return isAdded;
  }
}
