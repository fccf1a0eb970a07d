/** ECG paper on a canvas: grid, calibration pulse, shading, traces and time axis. */

import { formatTime } from "./format.js";
import { drawStrip } from "./shading.js";
import { INVALID } from "./signal.js";

export const COLOURS = {
  paper: "#fffaf8",
  fine: "#fbe3df",
  coarse: "#f0b8b0",
  ink: "#14141c",
  label: "#14141c",
  axis: "#6b4a46",
  end: "#e9e2e0",
};
export const FONT = '"Inter", "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif';
const PULSE = 0.2; // s
const FINEST = 2.6; // pixels between lines of the grid
const LONGEST_NAME = 500; // characters of a lead's name that are measured
const ZIGZAG = 1.5; // samples per pixel from which minima and maxima are drawn

/** Draw a view. `scale` is the number of device pixels in a CSS pixel. */
export function drawPaper(context, view, shading, scale) {
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.fillStyle = COLOURS.paper;
  context.fillRect(0, 0, view.width, view.height);
  drawGrid(context, view, scale);
  if (!view.signal) return;
  if (shading) drawShading(context, view, shading);
  drawPulses(context, view);
  drawTraces(context, view, scale);
  drawMissing(context, view, scale);
  drawEnd(context, view);
  drawNames(context, view, shading);
  drawTimes(context, view);
}

/** The steps of the grid in time, fine and coarse, in s. */
export function chooseTimeSteps(view) {
  const steps = [1 / view.speed, 5 / view.speed, 1, 5, 30, 60, 300, 1800, 7200];
  const fine = steps.findIndex((step) => step * view.pixelsPerSecond >= FINEST);
  const index = fine < 0 ? steps.length - 2 : Math.min(fine, steps.length - 2);
  return [steps[index], steps[index + 1]];
}

function drawGrid(context, view, scale) {
  const snap = (value) => Math.round(value * scale) / scale;
  const line = 1 / scale;
  const [fineTime, coarseTime] = chooseTimeSteps(view);
  const square = view.mm * view.magnification;
  const first = view.timeAt(0);
  const last = view.timeAt(view.width);
  for (const [time, millimetres, colour, width] of [
    [fineTime, square >= FINEST ? 1 : 5, COLOURS.fine, line],
    [coarseTime, 5, COLOURS.coarse, Math.max(line, snap(view.mm * 0.14))],
  ]) {
    context.fillStyle = colour;
    context.beginPath();
    for (let index = Math.ceil(first / time); index * time <= last; index++) {
      context.rect(snap(view.xAt(index * time) - width / 2), 0, width, view.height);
    }
    const step = millimetres * square;
    for (let y = -(view.scroll % step); y <= view.height; y += step) {
      context.rect(0, snap(y - width / 2), view.width, width);
    }
    context.fill();
  }
}

function drawShading(context, view, shading) {
  const { height } = view.plot;
  for (const { lead, row, left, right } of view.pieces()) {
    const strip = shading.strips.get(view.signal.traces[lead].name);
    const top = view.top + row * view.rowHeight - view.scroll;
    if (!strip || top > height || top + view.rowHeight < 0) continue;
    const bottom = Math.min(top + view.rowHeight - 2, height);
    context.save();
    context.beginPath();
    context.rect(left, 0, right - left, height);
    context.clip();
    const begin = view.timeAt(left);
    const end = view.timeAt(right);
    drawStrip(context, shading, strip, {
      begin,
      end,
      x: left,
      y: top + 1,
      width: right - left,
      height: bottom - top - 1,
    });
    context.restore();
  }
}

function drawPulses(context, view) {
  const width = Math.min(PULSE * view.pixelsPerSecond, view.plot.left - 12);
  const edge = Math.max(2, (view.plot.left - width) / 2 - 3);
  context.strokeStyle = COLOURS.ink;
  context.lineWidth = traceWidth(view);
  context.beginPath();
  for (let row = 0; row < view.rows.length; row++) {
    const base = view.baselineOf(row);
    if (base < 0 || base > view.plot.height) continue;
    const top = base - view.pixelsPerMillivolt;
    context.moveTo(edge - 3, base);
    context.lineTo(edge, base);
    context.lineTo(edge, top);
    context.lineTo(edge + width, top);
    context.lineTo(edge + width, base);
    context.lineTo(edge + width + 3, base);
  }
  context.stroke();
}

const traceWidth = (view) => Math.min(3.4, Math.max(1.25, view.mm * 0.3 * Math.sqrt(view.magnification)));

function drawTraces(context, view, scale) {
  context.strokeStyle = COLOURS.ink;
  context.lineWidth = traceWidth(view);
  context.lineJoin = "bevel";
  const height = view.plot.height;
  for (const piece of view.pieces()) {
    const baseline = view.baselineOf(piece.row);
    const { highest, deepest } = view.signal.traces[piece.lead];
    const [top, bottom] = [-highest, deepest].map((millivolts) => baseline + millivolts * view.pixelsPerMillivolt);
    if (bottom < -view.mm || top > height + view.mm) continue;
    context.save();
    context.beginPath();
    context.rect(piece.left, 0, piece.right - piece.left, height);
    context.clip();
    context.beginPath();
    traceLead(context, view, piece, baseline, scale);
    context.stroke();
    context.restore();
  }
}

/** Add a lead's samples between two ends to the path, as they are or by minimum and maximum of each pixel. */
function traceLead(context, view, { lead, left, right }, baseline, scale) {
  const { traces, frequency, length } = view.signal;
  const trace = traces[lead];
  const perSample = view.pixelsPerSecond / frequency;
  const origin = view.plot.left - view.begin * view.pixelsPerSecond; // of sample 0
  const first = Math.max(0, Math.floor((left - origin) / perSample) - 1);
  const last = Math.min(length - 1, Math.ceil((right - origin) / perSample) + 1);
  const factor = trace.millivolts * view.pixelsPerMillivolt;
  const zero = baseline + trace.median * factor;
  const samplesPerPixel = 1 / (perSample * scale);
  const range = { first, last, origin, perSample, factor, zero };
  const blocks = trace.read(first, last, samplesPerPixel);
  if (samplesPerPixel <= ZIGZAG) traceSamples(context, blocks, range);
  else traceExtremes(context, blocks, range, samplesPerPixel);
}

function traceSamples(context, { low, start }, { first, last, origin, perSample, factor, zero }) {
  let drawn = false;
  for (let index = first; index <= last; index++) {
    const value = low[index - start];
    if (value === INVALID) drawn = false;
    else if (drawn) context.lineTo(origin + index * perSample, zero - value * factor);
    else {
      context.moveTo(origin + index * perSample, zero - value * factor);
      drawn = true;
    }
  }
}

/** Pixels begin at multiples of their number of samples, so that a trace keeps its form while it moves. */
function traceExtremes(context, blocks, { first, last, origin, perSample, factor, zero }, samplesPerPixel) {
  const { low, high, size, start } = blocks;
  const step = samplesPerPixel / size;
  let drawn = false;
  for (let pixel = Math.floor(first / samplesPerPixel); pixel * samplesPerPixel <= last; pixel++) {
    const end = Math.min(Math.floor((pixel + 1) * step) - start, low.length);
    let smallest = 32768;
    let largest = INVALID;
    let smallestAt = 0;
    let largestAt = 0;
    let gap = false;
    for (let index = Math.max(0, Math.floor(pixel * step) - start); index < end; index++) {
      if (high[index] === INVALID) {
        gap = true;
        continue;
      }
      if (low[index] < smallest) [smallest, smallestAt] = [low[index], index];
      if (high[index] > largest) [largest, largestAt] = [high[index], index];
    }
    if (largest === INVALID) {
      drawn = false;
      continue;
    }
    const x = origin + (pixel + 0.5) * samplesPerPixel * perSample;
    const values = smallestAt <= largestAt ? [smallest, largest] : [largest, smallest];
    if (drawn) context.lineTo(x, zero - values[0] * factor);
    else context.moveTo(x, zero - values[0] * factor + 0.01);
    context.lineTo(x, zero - values[1] * factor);
    drawn = !gap;
  }
}

/** Cover the paper where the samples of a long recording are not there yet. */
function drawMissing(context, view, scale) {
  const { left, right } = view.plot;
  for (const [begin, end] of view.missing(scale)) {
    const [from, to] = [Math.max(left, view.xAt(begin)), Math.min(right, view.xAt(end))];
    if (to <= from) continue;
    context.fillStyle = COLOURS.end;
    context.globalAlpha = 0.6;
    context.fillRect(from, 0, to - from, view.plot.height);
    context.globalAlpha = 1;
    context.fillStyle = COLOURS.axis;
    context.font = `${view.fontSize}px ${FONT}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText("Loading …", (from + to) / 2, view.plot.height / 2);
  }
}

/** Cover the paper after the end of the recording. */
function drawEnd(context, view) {
  const x = view.xAt(view.seconds);
  if (x >= view.plot.right) return;
  context.fillStyle = COLOURS.end;
  context.globalAlpha = 0.6;
  context.fillRect(x + 1, 0, view.width - x, view.height);
  context.globalAlpha = 1;
}

function drawNames(context, view, shading) {
  const size = Math.min(2 * view.fontSize, Math.max(0.9 * view.fontSize, view.mm * 3.1));
  const lift = Math.min(view.rowHeight * 0.5 - size * 0.65, view.mm * 9 * view.magnification);
  context.textBaseline = "middle";
  context.textAlign = "left";
  context.lineJoin = "round";
  for (const { lead, row, column, left, right } of view.pieces()) {
    const baseline = view.baselineOf(row);
    if (baseline < 0 || baseline - lift > view.plot.height) continue;
    context.font = `600 ${size}px ${FONT}`;
    const name = fitText(context, view.signal.traces[lead].name, right - left - 10);
    const y = Math.max(size * 0.65, baseline - lift);
    context.strokeStyle = COLOURS.paper;
    context.lineWidth = 4;
    context.strokeText(name, left + 5, y);
    context.fillStyle = COLOURS.label;
    context.fillText(name, left + 5, y);
    if (column > 0) context.fillRect(left, baseline - 3 * view.mm, 1, 6 * view.mm);
    const strip = shading?.strips.get(view.signal.traces[lead].name);
    if (strip) drawShare(context, strip.share / shading.largestShare, left + 5, y + size * 0.6, size);
  }
}

/** Return a text that fits into a width; a longer one has dots in its middle, since names often differ at their ends. */
function fitText(context, text, width) {
  const cut = (count) => `${text.slice(0, Math.ceil(count / 2))}…${text.slice(text.length - Math.floor(count / 2))}`;
  if (text.length <= LONGEST_NAME && context.measureText(text).width <= width) return text;
  let [fits, tooLong] = [0, Math.min(text.length, LONGEST_NAME) + 1];
  while (tooLong - fits > 1) {
    const count = (fits + tooLong) >> 1;
    if (context.measureText(cut(count)).width <= width) fits = count;
    else tooLong = count;
  }
  return cut(fits);
}

/** Draw how much a lead contributes, as a bar below its name. */
function drawShare(context, share, x, y, size) {
  context.fillStyle = "rgba(20, 20, 28, 0.16)";
  context.fillRect(x, y, size * 2.4, 3);
  context.fillStyle = "#b35c00";
  context.fillRect(x, y, size * 2.4 * Math.max(0, Math.min(share, 1)), 3);
}

function drawTimes(context, view) {
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200];
  const step = steps.find((seconds) => seconds * view.pixelsPerSecond >= 4.5 * view.fontSize) ?? 21600;
  context.fillStyle = "rgba(255, 250, 248, 0.86)";
  context.fillRect(0, view.plot.height + 1, view.width, view.height);
  context.fillStyle = COLOURS.axis;
  context.font = `${0.85 * view.fontSize}px ${FONT}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  const last = Math.min(view.timeAt(view.plot.right), view.seconds);
  for (let index = Math.ceil(view.begin / step - 1e-9); index * step <= last + 1e-9; index++) {
    const x = view.xAt(index * step);
    context.fillRect(x - 0.5, view.plot.height + 1, 1, 3);
    const text = formatTick(index * step, step);
    const half = context.measureText(text).width / 2 + 2;
    context.fillText(text, Math.min(x, view.width - half), view.plot.height + 0.55 * view.foot + 1);
  }
}

function formatTick(time, step) {
  if (time < 60) return `${step < 1 ? time.toFixed(1) : Math.round(time)} s`;
  return formatTime(time, step < 1 ? 1 : 0);
}
