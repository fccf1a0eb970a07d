/** The canvas of the paper: drawing in time with the screen, and mouse, wheel and touch. */

import { build } from "./dom.js";
import { Calipers } from "./calipers.js";
import { drawPaper } from "./paper.js";
import { View } from "./view.js";

const WHEEL = 0.0016; // of zoom for each pixel of the wheel

/** Paper in a box that it fills, with calipers on a second canvas above it. */
export class PaperCanvas {
  /** @param {function} onchange Called after the view has changed, with the point below the mouse or null. */
  constructor(onchange) {
    this.view = new View();
    this.calipers = new Calipers();
    this.measures = false; // whether dragging draws calipers
    this.shading = null;
    this.onchange = onchange;
    this.pointers = new Map();
    this.frame = 0;
    this.mouse = null; // {x, y}
    this.base = build("canvas", { class: "paper", "aria-hidden": "true" });
    this.overlay = build("canvas", {
      class: "overlay",
      role: "img",
      tabindex: "0",
      id: "paper",
      "aria-label": "The recording on ECG paper",
    });
    this.element = build("div", { class: "sheet" }, this.base, this.overlay);
    new ResizeObserver(() => this.resize()).observe(this.element);
    this.listen();
  }

  /** Show another recording. The first frame is drawn at once. */
  setSignal(signal, { keepView = false } = {}) {
    this.view.setSignal(signal);
    if (!keepView) {
      this.view.reset();
      this.calipers.clear();
      this.shading = null;
    }
    this.view.clamp();
    if (this.scale || !this.element.isConnected) this.draw();
    else this.resize();
  }

  setShading(shading) {
    this.shading = shading;
    this.requestDraw();
  }

  /** Change settings of the view, such as its speed. */
  change(settings) {
    Object.assign(this.view, settings);
    this.view.arrange();
    this.requestDraw();
  }

  resize() {
    const { width, height } = this.element.getBoundingClientRect();
    this.scale = window.devicePixelRatio || 1;
    for (const canvas of [this.base, this.overlay]) {
      canvas.width = Math.max(1, Math.round(width * this.scale));
      canvas.height = Math.max(1, Math.round(height * this.scale));
    }
    const fontSize = Number.parseFloat(getComputedStyle(document.documentElement).fontSize);
    Object.assign(this.view, { width: Math.max(width, 1), height: Math.max(height, 1), fontSize });
    this.view.clamp();
    this.draw();
  }

  requestDraw() {
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    if (!this.scale) return;
    drawPaper(this.base.getContext("2d", { alpha: false }), this.view, this.shading, this.scale);
    this.drawOverlay();
    this.onchange(this.point);
  }

  /** What is below the mouse, or null. */
  get point() {
    return this.mouse && this.view.locate(this.mouse.x, this.mouse.y);
  }

  drawOverlay() {
    const context = this.overlay.getContext("2d");
    context.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    context.clearRect(0, 0, this.view.width, this.view.height);
    this.calipers.draw(context, this.view);
  }

  listen() {
    const { overlay } = this;
    overlay.addEventListener("wheel", (event) => this.turnWheel(event), { passive: false });
    overlay.addEventListener("pointerdown", (event) => this.press(event));
    overlay.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) overlay.addEventListener(name, (event) => this.release(event));
    overlay.addEventListener("pointerleave", () => {
      this.mouse = null;
      this.onchange(null);
    });
    overlay.addEventListener("dblclick", () => {
      if (this.measures) return;
      this.view.zoomAt(this.view.plot.left, 0, 1 / this.view.zoom);
      this.requestDraw();
    });
  }

  turnWheel(event) {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1;
    const [x, y] = [event.deltaX * unit, event.deltaY * unit];
    if (event.shiftKey || Math.abs(x) > Math.abs(y)) this.view.panBy(-(x || y), 0);
    else this.view.zoomAt(event.offsetX, event.offsetY, Math.exp(-y * WHEEL * (event.ctrlKey ? 4 : 1)));
    this.requestDraw();
  }

  press(event) {
    if (event.button !== 0) return;
    this.overlay.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    const point = this.view.locate(event.offsetX, event.offsetY);
    if (this.measures && point && this.pointers.size === 1) {
      this.calipers.press(this.view, event.offsetX, point);
      this.requestDraw();
    }
  }

  move(event) {
    const [x, y] = [event.offsetX, event.offsetY];
    this.mouse = { x, y };
    const last = this.pointers.get(event.pointerId);
    if (!last) return this.onchange(this.point);
    if (this.pointers.size === 2) this.pinch(event.pointerId, x, y);
    else if (this.measures) {
      const { left, right, height } = this.view.plot;
      this.calipers.drag(this.view, Math.min(Math.max(x, left), right), Math.min(Math.max(y, 0), height));
    } else this.view.panBy(x - last.x, y - last.y);
    this.pointers.set(event.pointerId, { x, y });
    this.requestDraw();
  }

  /** Zoom by the distance of two fingers, about their middle. */
  pinch(moved, x, y) {
    const [fixedId] = [...this.pointers.keys()].filter((id) => id !== moved);
    const fixed = this.pointers.get(fixedId);
    const last = this.pointers.get(moved);
    const distance = (point) => Math.max(20, Math.hypot(point.x - fixed.x, point.y - fixed.y));
    this.view.panBy((x - last.x) / 2, (y - last.y) / 2);
    this.view.zoomAt((x + fixed.x) / 2, (y + fixed.y) / 2, distance({ x, y }) / distance(last));
  }

  release(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.measures) this.calipers.release(this.view);
    this.requestDraw();
  }
}
