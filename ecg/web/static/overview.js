/** The strip below the paper: the whole recording, and which part of it the paper shows. */

import { build } from "./dom.js";
import { COLOURS } from "./paper.js";
import { INVALID } from "./signal.js";

/** Draws one lead of the whole recording once, and a frame around what the paper shows. */
export class Overview {
  /** @param {function} onseek Called with the time at which the paper should begin, in s. */
  constructor(onseek) {
    this.canvas = build("canvas", { "aria-hidden": "true" });
    this.handle = build("div", { class: "window" });
    this.element = build(
      "div",
      { class: "overview", title: "Drag to move through the recording" },
      this.canvas,
      this.handle,
    );
    this.onseek = onseek;
    this.signal = null;
    new ResizeObserver(() => this.setSignal(this.signal)).observe(this.element);
    this.element.addEventListener("pointerdown", (event) => {
      this.element.setPointerCapture(event.pointerId);
      this.seek(event);
    });
    this.element.addEventListener("pointermove", (event) => event.buttons && this.seek(event));
  }

  seek(event) {
    if (!this.signal) return;
    const { left, width } = this.element.getBoundingClientRect();
    this.onseek(((event.clientX - left) / width) * this.signal.seconds - this.span / 2);
  }

  setSignal(signal) {
    this.signal = signal;
    const { width, height } = this.element.getBoundingClientRect();
    const scale = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(width * scale));
    this.canvas.height = Math.max(1, Math.round(height * scale));
    const context = this.canvas.getContext("2d", { alpha: false });
    context.fillStyle = COLOURS.paper;
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.handle.hidden = !signal;
    if (signal && width) drawWhole(context, signal);
  }

  /** Frame what a view shows. */
  frame(view) {
    if (!view.signal || !view.seconds) return;
    this.span = view.span;
    const percent = (time) => 100 * Math.min(Math.max(time / view.seconds, 0), 1);
    this.handle.style.left = `${percent(view.begin)}%`;
    this.handle.style.width = `${percent(view.begin + view.span) - percent(view.begin)}%`;
    this.element.classList.toggle("complete", view.span >= view.seconds - 1e-6);
  }
}

function drawWhole(context, { traces, length }) {
  const { canvas } = context;
  const trace = traces.find(({ name }) => name === "II") ?? traces[0];
  if (!trace || !length) return;
  const perPixel = length / canvas.width;
  const level = trace.readCoarse(perPixel) ?? trace.read(0, length, perPixel);
  const columns = [];
  for (let x = 0; x < canvas.width; x++) {
    let [low, high] = [32768, INVALID];
    const end = Math.min(Math.ceil(((x + 1) * perPixel) / level.size), level.low.length);
    for (let index = Math.floor((x * perPixel) / level.size); index < end; index++) {
      if (level.high[index] === INVALID) continue;
      low = Math.min(low, level.low[index]);
      high = Math.max(high, level.high[index]);
    }
    columns.push([low, high]);
  }
  const range = Math.max(
    400 / (1000 * trace.millivolts),
    ...columns.map(([low, high]) => Math.max(high - trace.median, trace.median - low, 0) % 65000),
  );
  const factor = (canvas.height * 0.46) / range;
  context.fillStyle = "#5a4a4a";
  columns.forEach(([low, high], x) => {
    if (high < low) return;
    const top = canvas.height / 2 - (high - trace.median) * factor;
    context.fillRect(x, top, 1, Math.max(1, (high - low) * factor));
  });
}
