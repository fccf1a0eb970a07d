/** Shading of evidence: one strip of colours for each lead, drawn behind its trace. */

import { splitNames } from "./signal.js";

const COLOUR = [255, 176, 0]; // a highlighter's amber: the grid is red, the trace dark
const OPACITY = 0.85; // of the strongest evidence
const FAINTEST = 20; // of 255; weaker evidence is not drawn
const WIDEST = 8192; // pixels of an image

/** Decode the server's answer: uint8 by lead and bin. */
export function decodeShading(buffer, headers) {
  const names = splitNames(headers.get("X-Leads"));
  const bins = Number(headers.get("X-Bins"));
  const binSeconds = Number(headers.get("X-Seconds-Per-Bin"));
  const shares = splitNames(headers.get("X-By-Lead")).map(Number);
  if (!(bins > 0) || !(binSeconds > 0) || buffer.byteLength !== names.length * bins) {
    throw new Error("The evidence is not as long as the server says.");
  }
  const values = new Uint8Array(buffer);
  const strips = new Map();
  names.forEach((name, row) => {
    strips.set(name, { share: shares[row] || 0, images: paintStrip(values.subarray(row * bins, (row + 1) * bins)) });
  });
  return { binSeconds, bins, strips, largestShare: Math.max(...shares.filter(Number.isFinite), 1e-9) };
}

function paintStrip(values) {
  const images = [];
  for (let start = 0; start < values.length; start += WIDEST) {
    const part = values.subarray(start, start + WIDEST);
    const image = new ImageData(part.length, 1);
    part.forEach((value, index) => {
      const strength = value < FAINTEST ? 0 : value / 255;
      image.data.set([...COLOUR, Math.round(255 * OPACITY * strength ** 0.8)], 4 * index);
    });
    const canvas = document.createElement("canvas");
    canvas.width = part.length;
    canvas.height = 1;
    canvas.getContext("2d").putImageData(image, 0, 0);
    images.push({ start, canvas });
  }
  return images;
}

/** Draw the strip of a lead between two points of time into a rectangle of a canvas. */
export function drawStrip(context, shading, strip, { begin, end, x, y, width, height }) {
  const pixelsPerBin = (width * shading.binSeconds) / (end - begin);
  for (const { start, canvas } of strip.images) {
    const from = Math.max(begin / shading.binSeconds, start, 0);
    const to = Math.min(end / shading.binSeconds, start + canvas.width);
    if (to <= from) continue;
    const left = x + (from - begin / shading.binSeconds) * pixelsPerBin;
    context.drawImage(canvas, from - start, 0, to - from, 1, left, y, (to - from) * pixelsPerBin, height);
  }
}
