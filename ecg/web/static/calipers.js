/** Calipers: an interval in ms and beats per minute, and a difference in mV. */

import { FONT } from "./paper.js";
import { INVALID } from "./signal.js";

const GRIP = 7; // pixels from a line that still take hold of it
const REACH = 0.06; // s around the pointer in which a peak is looked for
const COLOUR = "#0b57b0";

/** Two points of time and two voltages of a row. */
export class Calipers {
  constructor() {
    this.from = null; // {time, millivolts, row, lead}
    this.to = null;
    this.isMarching = false;
    this.snaps = false;
    this.grip = null;
  }

  clear() {
    this.from = this.to = this.grip = null;
  }

  /** Begin at a point: take hold of a line near it, or draw anew. */
  press(view, x, point) {
    if (this.from) {
      for (const end of ["from", "to"]) {
        if (Math.abs(view.xAt(this[end].time) - x) <= GRIP) {
          this.grip = end;
          return;
        }
      }
    }
    this.from = this.makeEnd(view, point);
    this.to = { ...this.from };
    this.grip = "to";
  }

  /** Move the end that is held to a point; it stays in the row of the other end. */
  drag(view, x, y) {
    if (!this.grip) return;
    const { row, lead } = this[this.grip === "to" ? "from" : "to"];
    const point = {
      time: view.timeAt(x),
      millivolts: (view.baselineOf(row) - y) / view.pixelsPerMillivolt,
      row,
      lead: view.pieceAt(row, x)?.lead ?? lead,
    };
    this[this.grip] = this.makeEnd(view, point);
  }

  release(view) {
    this.grip = null;
    if (this.from && Math.abs(view.xAt(this.from.time) - view.xAt(this.to.time)) < 2) this.clear();
  }

  /** Move an end by a number of samples. */
  nudge(view, end, samples) {
    this[end] = { ...this[end], time: this[end].time + samples / view.signal.frequency };
  }

  /** Return an end at a point, or at the peak near it. */
  makeEnd(view, { time, millivolts, row, lead }) {
    return { time, millivolts, row, lead, ...(this.snaps && findPeak(view.signal, lead, time)) };
  }

  /** Return the measures, or null if nothing is measured. */
  measure() {
    if (!this.from) return null;
    const seconds = Math.abs(this.to.time - this.from.time);
    return {
      milliseconds: seconds * 1000,
      perMinute: seconds > 0 ? 60 / seconds : null,
      millivolts: this.to.millivolts - this.from.millivolts,
    };
  }

  /** Return the measures in words. */
  describe() {
    const measures = this.measure();
    if (!measures) return "";
    const rate = measures.perMinute === null || measures.perMinute > 1500 ? "–" : Math.round(measures.perMinute);
    const voltage = `${measures.millivolts < 0 ? "−" : "+"}${Math.abs(measures.millivolts).toFixed(2)}`;
    return `${Math.round(measures.milliseconds)} ms · ${rate} bpm · ${voltage} mV`;
  }

  draw(context, view) {
    if (!this.from) return;
    const { height, left, right } = view.plot;
    const [a, b] = [view.xAt(this.from.time), view.xAt(this.to.time)];
    const row = this.from.row;
    const [top, bottom] = [this.to, this.from].map(
      (end) => view.baselineOf(row) - end.millivolts * view.pixelsPerMillivolt,
    );
    context.save();
    context.beginPath();
    context.rect(left, 0, right - left, height);
    context.clip();
    context.fillStyle = "rgba(11, 87, 176, 0.08)";
    context.fillRect(Math.min(a, b), 0, Math.abs(b - a), height);
    context.strokeStyle = COLOUR;
    context.lineWidth = 1.25;
    this.drawMarch(context, view, a, b);
    context.beginPath();
    for (const x of [a, b]) {
      context.moveTo(x, 0);
      context.lineTo(x, height);
    }
    for (const y of [top, bottom]) {
      context.moveTo(Math.min(a, b) - 6, y);
      context.lineTo(Math.max(a, b) + 6, y);
    }
    context.stroke();
    context.restore();
    this.drawLabel(context, view, (a + b) / 2, Math.min(top, bottom));
  }

  /** Repeat the interval over the whole width. */
  drawMarch(context, view, a, b) {
    const step = Math.abs(b - a);
    if (!this.isMarching || step < 4) return;
    context.setLineDash([4, 4]);
    context.beginPath();
    const first = Math.min(a, b) - Math.ceil((Math.min(a, b) - view.plot.left) / step) * step;
    for (let x = first; x <= view.plot.right; x += step) {
      context.moveTo(x, 0);
      context.lineTo(x, view.plot.height);
    }
    context.stroke();
    context.setLineDash([]);
  }

  drawLabel(context, view, x, y) {
    const text = this.describe();
    const size = view.fontSize;
    context.font = `600 ${size}px ${FONT}`;
    const width = context.measureText(text).width + 1.2 * size;
    const left = Math.max(view.plot.left + 2, Math.min(x - width / 2, view.plot.right - width - 2));
    const top = Math.max(4, Math.min(y - 2.4 * size, view.plot.height - 2.1 * size));
    context.fillStyle = COLOUR;
    context.beginPath();
    context.roundRect(left, top, width, 1.85 * size, 4);
    context.fill();
    context.fillStyle = "#fff";
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillText(text, left + 0.6 * size, top + 0.96 * size);
  }
}

/** Return time and voltage of the largest deflection near a point of time, or {} if there is no valid sample. */
function findPeak({ traces, frequency, length }, lead, time) {
  const trace = traces[lead];
  const first = Math.max(0, Math.round((time - REACH) * frequency));
  const last = Math.min(length - 1, Math.round((time + REACH) * frequency));
  const { low: samples, start } = trace.read(first, last, 1);
  const values = samples
    .subarray(first - start, last + 1 - start)
    .filter((value) => value !== INVALID)
    .sort();
  if (!values.length) return {};
  const middle = values[values.length >> 1];
  let best = null;
  for (let index = first - start; index <= last - start; index++) {
    const value = samples[index];
    if (value !== INVALID && (best === null || Math.abs(value - middle) > Math.abs(samples[best] - middle))) best = index;
  }
  const millivolts = (samples[best] - trace.median) * trace.millivolts;
  return { time: (best + start) / frequency, millivolts };
}
