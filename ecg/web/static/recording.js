/** The view of a recording: paper, toolbar, overview, and the panel for review. */

import { UnreachableError } from "./api.js";
import { PaperCanvas } from "./canvas.js";
import { build, button, choice, fill, showAlert, showToast } from "./dom.js";
import { describeDemographics, formatCount, formatSeconds, formatTime, pluralise } from "./format.js";
import { GAINS, SPEEDS, listRecordingKeys } from "./keys.js";
import { LAYOUTS } from "./layout.js";
import { Evidence } from "./evidence.js";
import { Overview } from "./overview.js";
import { ReviewPanel } from "./review.js";
import { changeSettings, settings } from "./storage.js";

const KINDS = [
  ["raw", "Raw"],
  ["filtered", "Filtered"],
];
const POLL = 1000; // ms between questions for a prediction
const RETRY = 3000; // ms until a server that did not answer is asked again

/** Shows one recording after another. */
export class RecordingView {
  /** @param {object} page `session`, `outbox`, `loader`, `queue`, and `openRecording(record)`, `openList()`. */
  constructor(page) {
    this.page = page;
    this.record = null;
    this.facts = null;
    this.paper = new PaperCanvas((point) => this.followView(point));
    this.overview = new Overview((time) => this.moveTo(time));
    this.panel = new ReviewPanel(page.session, page.outbox, {
      onselect: () => this.evidence.update(),
      onanswer: (isComplete) => this.finishAnswer(isComplete),
      onreveal: () => this.reveal(),
      onnext: () => this.go(1),
    });
    this.evidence = new Evidence(page, this.paper, this.panel);
    this.title = build("h1", { class: "record-title" });
    this.details = build("p", { class: "record-details" });
    this.position = build("span", { class: "position" });
    this.toolbar = build("div", { class: "toolbar", role: "toolbar", "aria-label": "Paper" });
    this.readout = build("p", { class: "readout" });
    this.measure = build("output", { class: "measure", "aria-live": "polite" });
    this.message = build("div", { class: "sheet-message", role: "status", hidden: true });
    this.paper.element.append(this.message);
    this.element = this.buildPage();
    this.applySettings();
  }

  buildPage() {
    const head = build(
      "header",
      { class: "record-head" },
      button("List", () => this.page.openList(), { key: "Esc", class: "quiet" }),
      build("div", { class: "record-name" }, this.title, this.details),
      this.position,
      button("Back", () => this.go(-1), { key: "B", class: "quiet" }),
      button("Next", () => this.go(1), { key: "N", class: "quiet" }),
    );
    const status = build("div", { class: "status-line" }, this.readout, this.measure);
    const left = build(
      "section",
      { class: "stage", "aria-label": "Recording" },
      head,
      this.toolbar,
      this.paper.element,
      this.overview.element,
      status,
    );
    return build("div", { class: "recording" }, left, this.panel.element);
  }

  get keys() {
    return listRecordingKeys(this);
  }

  /** Open a recording. */
  async open(record) {
    this.record = record;
    this.facts = null;
    this.isRevealing = false;
    clearTimeout(this.timer);
    this.paper.view.signal?.release?.();
    this.paper.setSignal(null); // the trace of one recording never stands below the name of another
    this.overview.setSignal(null);
    this.panel.clear();
    this.evidence.clear();
    fill(this.details, "\u00a0");
    const folder = record.slice(0, record.lastIndexOf("/") + 1);
    fill(this.title, folder && build("span", { class: "folder", text: folder }), record.slice(folder.length));
    this.title.title = record;
    this.showPosition();
    const { loader } = this.page;
    const signal = loader.signal(record, settings.kind);
    this.isSlow = setTimeout(() => this.record === record && this.showMessage("Loading …"), 250);
    const loaded = [this.showSignal(record, signal, false), this.showFacts(record)];
    const failures = (await Promise.all(loaded)).filter(Boolean);
    clearTimeout(this.isSlow);
    if (this.record !== record) return;
    if (failures.some((error) => error instanceof UnreachableError)) {
      this.timer = setTimeout(() => this.record === record && this.open(record), RETRY);
    } else this.loadAhead();
  }

  /** Load and draw the signal. Returns the error if that fails. */
  async showSignal(record, promise, keepView) {
    try {
      const signal = await promise;
      if (this.record !== record) return null;
      clearTimeout(this.isSlow);
      this.showMessage("");
      if (signal.isLong) signal.onload = () => this.paper.requestDraw();
      if (signal.kind !== settings.kind) showToast("Long recordings are shown as recorded, not filtered.");
      this.paper.setSignal(signal, { keepView });
      this.overview.setSignal(signal);
      this.overview.frame(this.paper.view);
      this.describePaper();
      if (!keepView) this.evidence.update();
      return null;
    } catch (error) {
      if (this.record !== record) return null;
      clearTimeout(this.isSlow);
      this.paper.setSignal(null);
      this.overview.setSignal(null);
      this.showMessage(`This recording cannot be shown. ${error.message}`, () => this.open(record));
      return error;
    }
  }

  /** Load and show the facts. Returns the error if that fails. */
  async showFacts(record) {
    try {
      const facts = await this.page.loader.facts(record);
      if (this.record !== record) return null;
      this.facts = facts;
      showAlert("facts", "");
      fill(
        this.details,
        [
          facts.source,
          describeDemographics(facts.sex, facts.age),
          formatSeconds(facts.seconds),
          facts.frequency ? `${formatCount(facts.frequency)} Hz` : null,
          pluralise(facts.leads.length, "lead"),
        ]
          .filter(Boolean)
          .join(" · "),
      );
      this.panel.show(facts);
      this.evidence.update();
      const isWaiting = facts.probabilities === null && !this.panel.isHidden && !facts.unusable;
      if (isWaiting) this.timer = setTimeout(() => this.reload(record), POLL);
      return null;
    } catch (error) {
      if (this.record !== record) return null;
      this.panel.clear();
      fill(this.details);
      const isReported = this.message.textContent.includes(error.message); // both failed for the same reason
      if (!isReported)
        showAlert(
          "facts",
          error.message,
          button("Try again", () => this.showFacts(record)),
        );
      return error;
    }
  }

  /** Load the facts again, since they may have changed. */
  async reload(record) {
    if (this.record !== record) return;
    this.page.loader.forgetFacts(record);
    await this.showFacts(record);
  }

  async loadAhead() {
    const { record } = this;
    try {
      const next = await this.page.queue.neighbour(record, 1);
      this.showPosition();
      if (next && this.record === record) this.page.loader.loadAhead(next, settings.kind);
    } catch {
      // The list is asked again when the reviewer goes on.
    }
  }

  close() {
    clearTimeout(this.timer);
    this.record = null;
    this.paper.view.signal?.release?.();
    this.evidence.clear();
    showAlert("facts", "");
  }

  showPosition() {
    const { queue } = this.page;
    const position = queue.position(this.record);
    this.position.textContent =
      position < 0 ? "" : `${formatCount(queue.start + position + 1)} of ${formatCount(queue.total)}`;
  }

  showMessage(text, retry = null) {
    this.message.hidden = !text;
    fill(this.message, build("p", { text }), retry && button("Try again", retry));
  }

  /** Go to the recording after or before this one. */
  async go(step) {
    const { record } = this;
    try {
      const next = await this.page.queue.neighbour(record, step);
      if (this.record !== record) return;
      if (next) this.page.openRecording(next);
      else showToast(step > 0 ? "This is the last recording of the list." : "This is the first recording of the list.");
    } catch (error) {
      showToast(error.message, "failed");
    }
  }

  async finishAnswer(isComplete) {
    this.page.queue.markReviewed(this.record);
    if (!isComplete) return;
    if (this.panel.isHidden) this.isRevealing = true;
    else if (settings.goesOn) await this.go(1);
  }

  /** Take a review that the server has saved. */
  async takeSaved(review) {
    this.panel.takeSaved(review);
    this.page.loader.forgetFacts(review.record);
    if (this.isRevealing && review.record === this.record && !this.page.outbox.waiting.length) await this.reveal();
  }

  /** Show label and prediction, which the server gives after an answer. */
  async reveal() {
    if (!this.panel.isHidden || !this.facts) return;
    this.isRevealing = false;
    await this.reload(this.record);
    if (this.facts?.labels) this.panel.reveal();
    else showToast("Answer first: then label and prediction are shown.");
    this.evidence.update();
  }

  /** Change settings of the paper, and keep them. */
  set(changes) {
    changeSettings(changes);
    this.applySettings();
    if (changes.kind && this.record) {
      this.showSignal(this.record, this.page.loader.signal(this.record, settings.kind), true);
      this.loadAhead();
    }
  }

  applySettings() {
    const { layout, speed, gain, isTrueSize, pixelsPerMm } = settings;
    this.paper.change({ layout, speed, gain, trueMm: isTrueSize ? pixelsPerMm : null });
    this.fillToolbar();
    this.describePaper();
  }

  fillToolbar() {
    const { calipers, measures } = this.paper;
    const toggle = (text, isOn, run, key) =>
      button(text, run, { key, "aria-pressed": String(Boolean(isOn)), class: "toggle" });
    fill(
      this.toolbar,
      choice("Layout", LAYOUTS, settings.layout, (layout) => this.set({ layout })),
      choice(
        "Speed in mm/s",
        SPEEDS.map((speed) => [speed, String(speed)]),
        settings.speed,
        (speed) => this.set({ speed }),
      ),
      build("span", { class: "unit", text: "mm/s" }),
      choice(
        "Gain in mm/mV",
        GAINS.map((gain) => [gain, String(gain)]),
        settings.gain,
        (gain) => this.set({ gain }),
      ),
      build("span", { class: "unit", text: "mm/mV" }),
      choice("Signal", KINDS, settings.kind, (kind) => this.set({ kind })),
      choice(
        "Size",
        [
          [false, "Fit"],
          [true, "True size"],
        ],
        settings.isTrueSize,
        (isTrueSize) => this.set({ isTrueSize }),
      ),
      build("span", { class: "space" }),
      toggle("Calipers", measures, () => this.toggleCalipers(), "C"),
      measures && toggle("March", calipers.isMarching, () => this.changeCalipers({ isMarching: !calipers.isMarching })),
      measures && toggle("Snap", calipers.snaps, () => this.changeCalipers({ snaps: !calipers.snaps })),
    );
  }

  toggleCalipers() {
    this.paper.measures = !this.paper.measures;
    if (!this.paper.measures) this.paper.calipers.clear();
    this.paper.overlay.classList.toggle("measuring", this.paper.measures);
    this.fillToolbar();
    this.paper.requestDraw();
  }

  changeCalipers(changes) {
    Object.assign(this.paper.calipers, changes);
    if (!this.paper.measures) this.toggleCalipers();
    this.fillToolbar();
    this.paper.requestDraw();
  }

  escape() {
    if (this.paper.calipers.from) {
      this.paper.calipers.clear();
      this.paper.requestDraw();
    } else if (this.paper.measures) this.toggleCalipers();
    else this.page.openList();
  }

  zoom(factor) {
    const { view } = this.paper;
    view.zoomAt(view.plot.left + view.plot.width / 2, view.plot.height / 2, factor ?? 1 / view.zoom);
    this.paper.requestDraw();
  }

  step(direction, event) {
    const { calipers, view } = this.paper;
    if (calipers.from) calipers.nudge(view, event.shiftKey ? "from" : "to", direction);
    else view.showTime(view.begin + direction * view.span * (event.shiftKey ? 1 : 0.25));
    this.paper.requestDraw();
  }

  moveTo(time) {
    this.paper.view.showTime(time === Infinity ? this.paper.view.seconds : time);
    this.paper.requestDraw();
  }

  /** Say what is below the mouse, what the calipers measure, and how large the paper is. */
  followView(point) {
    const { view, calipers } = this.paper;
    this.overview?.frame(view);
    this.measure.textContent = calipers.describe();
    const speed = view.speed * Math.min(1, view.zoom);
    const scale = `${Number(speed < 1 ? speed.toPrecision(1) : speed.toFixed(speed < 10 ? 1 : 0))} mm/s · ${view.gain} mm/mV`;
    const size = settings.isTrueSize
      ? view.magnification > 1
        ? `true size × ${view.magnification.toFixed(2)}`
        : "true size"
      : `${Math.round(100 * view.magnification)} %`;
    const where =
      point && view.signal
        ? `${view.signal.traces[point.lead].name} · ${formatTime(point.time)} · ${point.millivolts.toFixed(2).replace("-", "−")} mV`
        : "";
    this.readout.textContent = `${scale} · ${size}${where ? `   ${where}` : ""}`;
  }

  /** Describe the paper for those who cannot see it. */
  describePaper() {
    const { signal } = this.paper.view;
    if (!signal) return;
    const leads = signal.traces.map((trace) => trace.name).join(", ");
    this.paper.overlay.setAttribute(
      "aria-label",
      `ECG of ${this.record}: ${formatSeconds(signal.seconds)}, leads ${leads}, ${signal.kind} signal`,
    );
  }
}
