/** The geometry of the paper: what is where, in CSS pixels, seconds and millivolts. */

import { arrangeLeads } from "./layout.js";

export const FIT_WIDTH = 250; // mm of paper that fill the width: 10 s at 25 mm/s
const ROW = 12; // mm; the height of a row for which the size of the paper is chosen
const LEAST_ROW = 10; // mm; the least height of a row
const LEAST_SHARE = 0.6; // of its height without large deflections; then the paper is higher than the window
const SMALLEST = 2; // pixels per mm
const GUTTER = [34, 84]; // pixels left of the traces, for the calibration pulse
const GUTTER_MM = 9;
const RIGHT = 8;
const FOOT = 1.3; // of the size of letters, for the time axis
const TOP = 4; // mm above the first row
const MARGIN = 3; // mm between a deflection and the edge; baselines are moved to lines of the grid
const LARGEST_DEFLECTION = 5; // mV for which there is space at the edges; larger ones are artefacts
const LARGEST_ZOOM = 16;

/** Return the pixels per mm at which gutter and paper fill a width. */
function fitWidth(width) {
  const mm = width / (FIT_WIDTH + GUTTER_MM);
  const gutter = Math.min(Math.max(GUTTER_MM * mm, GUTTER[0]), GUTTER[1]);
  return (width - gutter) / FIT_WIDTH;
}

/** A view of a recording: which part is shown, and how large. */
export class View {
  constructor() {
    this.width = 1;
    this.height = 1;
    this.fontSize = 13;
    this.speed = 25; // mm/s
    this.gain = 10; // mm/mV
    this.trueMm = null; // pixels per mm of the screen, or null to fit the width
    this.layout = "3x4";
    this.signal = null;
    this.rows = [];
    this.reset();
  }

  /** Show the beginning at the size that fits. */
  reset() {
    this.begin = 0; // s, at the left end of the traces
    this.page = 0; // s, at the left end of the page, of which a magnified view shows a part
    this.zoom = 1; // above 1 paper and trace are magnified, below 1 only time is compressed
    this.scroll = 0; // pixels
  }

  /** Take another signal; keep size and layout. */
  setSignal(signal) {
    this.signal = signal;
    this.arrange();
  }

  arrange() {
    this.rows = this.signal
      ? arrangeLeads(
          this.layout,
          this.signal.traces.map((trace) => trace.name),
        )
      : [];
    this.clamp();
  }

  get plot() {
    const left = Math.min(Math.max(GUTTER_MM * this.mm, GUTTER[0]), GUTTER[1]); // as in fitWidth
    return {
      left,
      right: this.width - RIGHT,
      width: Math.max(1, this.width - RIGHT - left),
      height: this.height - this.foot,
    };
  }

  get foot() {
    return Math.round(FOOT * this.fontSize);
  }

  /** Pixels above the first row. */
  get top() {
    return this.spacing.top * this.mm * this.magnification;
  }

  /** Pixels from the top of the paper to its bottom, as far as there is content. */
  get contentHeight() {
    const { top, row, bottom } = this.spacing;
    return (top + row * Math.max(this.rows.length, 1) + bottom) * this.mm * this.magnification;
  }

  /** The largest deflection of the leads in a row, `highest` or `deepest`, in mm of paper with its margin. */
  deflectionOf(row, direction) {
    const leads = this.rows[row]?.leads.filter((lead) => lead !== null) ?? [];
    const millivolts = Math.max(0, ...leads.map((lead) => this.signal.traces[lead][direction]));
    return Math.min(millivolts, LARGEST_DEFLECTION) * this.gain + MARGIN;
  }

  /**
   * The height of a row, and the space above the first and below the last one, in mm.
   *
   * The rows share what the largest deflections at the edges of the paper leave, so that none is cut off.
   */
  get spacing() {
    const count = Math.max(this.rows.length, 1);
    const height = this.plot.height / this.mm;
    const above = this.deflectionOf(0, "highest");
    const below = this.deflectionOf(this.rows.length - 1, "deepest");
    // The baseline is in the middle of a row: half of a row at the edge is already there for the deflection.
    const normal = (height - TOP) / count;
    const shared = Math.min(
      normal,
      (height - above) / (count - 0.5),
      (height - TOP - below) / (count - 0.5),
      count > 1 ? (height - above - below) / (count - 1) : Infinity,
    );
    const row = Math.max(LEAST_ROW, LEAST_SHARE * normal, shared);
    return { top: Math.max(TOP, above - row / 2), row, bottom: Math.max(0, below - row / 2) };
  }

  /** Pixels per mm of paper, not magnified. */
  get mm() {
    if (this.trueMm) return this.trueMm;
    const height = (this.height - this.foot) / (Math.max(this.rows.length, 1) * ROW + TOP);
    return Math.max(SMALLEST, Math.min(fitWidth(this.width - RIGHT), height));
  }

  get magnification() {
    return Math.max(1, this.zoom);
  }

  get pixelsPerSecond() {
    return this.mm * this.speed * this.zoom;
  }

  get pixelsPerMillivolt() {
    return this.mm * this.gain * this.magnification;
  }

  get rowHeight() {
    return this.spacing.row * this.mm * this.magnification;
  }

  /** Seconds in the width of the traces. */
  get span() {
    return this.plot.width / this.pixelsPerSecond;
  }

  /** Seconds in the width of the page. */
  get pageSpan() {
    return this.span * this.magnification;
  }

  get seconds() {
    return this.signal?.seconds ?? 0;
  }

  /** Yield the visible intervals of time of which samples are still to be loaded, in s. */
  *missing(scale) {
    if (!this.signal?.isLong) return;
    const perSample = this.pixelsPerSecond / this.signal.frequency;
    const [first, last] = [this.begin, this.begin + this.span].map((time) => time * this.signal.frequency);
    yield* this.signal.missing(1 / (perSample * scale), first, last);
  }

  get smallestZoom() {
    return Math.min(1, this.plot.width / (this.mm * this.speed * Math.max(this.seconds, 1e-3)));
  }

  timeAt(x) {
    return this.begin + (x - this.plot.left) / this.pixelsPerSecond;
  }

  xAt(time) {
    return this.plot.left + (time - this.begin) * this.pixelsPerSecond;
  }

  /** The baseline of a row, on a line of the grid. */
  baselineOf(row) {
    const step = this.mm * this.magnification * (this.rowHeight > 15 * this.mm * this.magnification ? 5 : 1);
    return Math.round((this.top + (row + 0.5) * this.rowHeight) / step) * step - this.scroll;
  }

  /** Yield each visible piece of a trace: lead, row, column, and its left and right end. */
  *pieces() {
    const start = this.xAt(this.page);
    const width = this.plot.width * this.magnification;
    for (const [row, { leads }] of this.rows.entries()) {
      const step = width / leads.length;
      for (const [column, lead] of leads.entries()) {
        const left = Math.max(start + column * step, this.plot.left);
        const right = Math.min(start + (column + 1) * step, this.plot.right);
        if (lead !== null && right > left) yield { lead, row, column, left, right };
      }
    }
  }

  /** Return the piece of a row at a point of the width, or null if there is none. */
  pieceAt(row, x) {
    return [...this.pieces()].find((piece) => piece.row === row && x >= piece.left && x <= piece.right) ?? null;
  }

  /** Return time, lead and millivolts at a point, or null outside of the traces. */
  locate(x, y) {
    const { left, right, height } = this.plot;
    if (!this.signal || x < left || x > right || y < 0 || y > height) return null;
    const row = Math.min(Math.max(0, Math.floor((y + this.scroll - this.top) / this.rowHeight)), this.rows.length - 1);
    const piece = this.pieceAt(row, x);
    if (!piece) return null;
    return { ...piece, time: this.timeAt(x), millivolts: (this.baselineOf(row) - y) / this.pixelsPerMillivolt };
  }

  /** Keep the view within the recording and the paper. */
  clamp() {
    this.zoom = Math.min(Math.max(this.zoom, this.smallestZoom), LARGEST_ZOOM);
    this.begin = Math.max(0, Math.min(this.begin, Math.max(this.seconds, this.pageSpan) - this.span));
    this.page = Math.max(this.begin + this.span - this.pageSpan, Math.min(this.page, this.begin));
    this.scroll = Math.max(0, Math.min(this.scroll, this.contentHeight - this.plot.height));
  }

  /** Magnify by a factor such that a point stays where it is. */
  zoomAt(x, y, factor) {
    const time = this.timeAt(x);
    const offset = (y + this.scroll) / this.magnification;
    this.zoom = Math.min(Math.max(this.zoom * factor, this.smallestZoom), LARGEST_ZOOM);
    this.begin = time - (x - this.plot.left) / this.pixelsPerSecond;
    this.scroll = offset * this.magnification - y;
    this.clamp();
  }

  panBy(x, y) {
    this.begin -= x / this.pixelsPerSecond;
    this.scroll -= y;
    this.clamp();
  }

  showTime(begin) {
    this.begin = begin;
    this.clamp();
  }
}
