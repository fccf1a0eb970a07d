/** The view of a recording: paper, toolbar, overview, and the panel for review. */

import { UnreachableError } from "./api.js";
import { PaperCanvas } from "./canvas.js";
import { build, button, choice, fill, select, showAlert, showToast } from "./dom.js";
import { capitalise, describePerson, formatCount, formatSeconds, formatTime, pluralise } from "./format.js";
import { LAYOUTS } from "./layout.js";
import { Overview } from "./overview.js";
import { ReviewPanel } from "./review.js";
import { changeSettings, settings } from "./storage.js";

const SPEEDS = [25, 50];
const GAINS = [5, 10, 20];
const KINDS = [["raw", "Raw"], ["filtered", "Filtered"]];
const METHODS = { integrated_gradients: "Gradients", smoothgrad: "SmoothGrad", occlusion: "Occlusion" };
const POLL = 1000; // ms between questions for a prediction
const RETRY = 3000; // ms until a server that did not answer is asked again

const after = (values, value) => values[(values.indexOf(value) + 1) % values.length];

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
      onselect: () => this.updateEvidence(),
      onanswer: (isComplete) => this.finishAnswer(isComplete),
      onreveal: () => this.reveal(),
      onnext: () => this.go(1),
    });
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
      "header", { class: "record-head" },
      button("List", () => this.page.openList(), { key: "Esc", class: "quiet" }),
      build("div", { class: "record-name" }, this.title, this.details), this.position,
      button("Back", () => this.go(-1), { key: "B", class: "quiet" }), button("Next", () => this.go(1), { key: "N", class: "quiet" }),
    );
    const status = build("div", { class: "status-line" }, this.readout, this.measure);
    const left = build("section", { class: "stage", "aria-label": "Recording" }, head, this.toolbar, this.paper.element, this.overview.element, status);
    return build("div", { class: "recording" }, left, this.panel.element);
  }

  /** What each key does, for the keyboard and for the help. */
  get keys() {
    const calipers = this.paper.calipers;
    return [
      { group: "Review", keys: ["P", "1"], text: "Present", run: () => this.panel.answer("present") },
      { group: "Review", keys: ["A", "2"], text: "Absent", run: () => this.panel.answer("absent") },
      { group: "Review", keys: ["U", "3"], text: "Unsure", run: () => this.panel.answer("unsure") },
      { group: "Review", keys: ["ArrowUp"], text: "Class above", run: () => this.panel.step(-1) },
      { group: "Review", keys: ["ArrowDown"], text: "Class below", run: () => this.panel.step(1) },
      { group: "Review", keys: ["T"], text: "Write a comment (Enter ends it)", run: () => this.panel.comment.focus() },
      { group: "Review", keys: ["V"], text: "Show labels and predictions, once answered (blinded review)", run: () => this.reveal() },
      { group: "Review", keys: ["N"], text: "Next recording", run: () => this.go(1) },
      { group: "Review", keys: ["B"], text: "Recording before", run: () => this.go(-1) },
      { group: "Review", keys: ["Escape"], text: "Remove the calipers, or back to the list", run: () => this.escape() },
      { group: "Paper", keys: ["L"], text: "Next layout", run: () => this.set({ layout: after(LAYOUTS.map(([name]) => name), settings.layout) }) },
      { group: "Paper", keys: ["S"], text: "25 or 50 mm/s", run: () => this.set({ speed: after(SPEEDS, settings.speed) }) },
      { group: "Paper", keys: ["G"], text: "5, 10 or 20 mm/mV", run: () => this.set({ gain: after(GAINS, settings.gain) }) },
      { group: "Paper", keys: ["F"], text: "Raw or filtered signal", run: () => this.set({ kind: settings.kind === "raw" ? "filtered" : "raw" }) },
      { group: "Paper", keys: ["X"], text: "True size, or fit to the window", run: () => this.set({ isTrueSize: !settings.isTrueSize }) },
      { group: "Paper", keys: ["+", "="], text: "Zoom in (or turn the wheel)", run: () => this.zoom(1.25) },
      { group: "Paper", keys: ["-"], text: "Zoom out", run: () => this.zoom(0.8) },
      { group: "Paper", keys: ["0"], text: "Normal zoom (or double-click)", run: () => this.zoom(null) },
      { group: "Paper", keys: ["ArrowLeft"], text: "Back in time; with calipers: move the second line by a sample", shift: true, run: (event) => this.step(-1, event) },
      { group: "Paper", keys: ["ArrowRight"], text: "On in time; with calipers: move the second line by a sample (Shift: the first)", shift: true, run: (event) => this.step(1, event) },
      { group: "Paper", keys: ["Home"], text: "Beginning", run: () => this.moveTo(0) },
      { group: "Paper", keys: ["End"], text: "End", run: () => this.moveTo(Infinity) },
      { group: "Measure", keys: ["C"], text: "Calipers: drag across the trace", run: () => this.toggleCalipers() },
      { group: "Measure", keys: ["M"], text: "March: repeat the interval", run: () => this.changeCalipers({ isMarching: !calipers.isMarching }) },
      { group: "Measure", keys: ["K"], text: "Snap the calipers to peaks", run: () => this.changeCalipers({ snaps: !calipers.snaps }) },
      { group: "Evidence", keys: ["E"], text: "Show or hide the evidence for the class", run: () => this.toggleEvidence() },
      { group: "Evidence", keys: ["D"], text: "The other method", run: () => this.changeMethod() },
    ];
  }

  /** Open a recording. */
  async open(record) {
    this.record = record;
    this.facts = null;
    this.isRevealing = false;
    this.opened = performance.now();
    clearTimeout(this.timer);
    this.paper.setSignal(null); // the trace of one recording never stands below the name of another
    this.overview.setSignal(null);
    this.panel.clear();
    fill(this.details, "\u00a0");
    this.title.textContent = record.split("/").at(-1);
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
      signal.arrived = Math.max(signal.arrived, this.opened ?? 0);
      this.paper.setSignal(signal, { keepView });
      this.overview.setSignal(signal);
      this.overview.frame(this.paper.view);
      this.describePaper();
      if (!keepView) this.updateEvidence();
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
      fill(this.details, [
        facts.source, describePerson(facts.sex, facts.age), formatSeconds(facts.seconds),
        facts.frequency ? `${formatCount(facts.frequency)} Hz` : null, pluralise(facts.leads.length, "lead"),
      ].filter(Boolean).join(" · "));
      if (facts.unusable) showAlert("facts", `The model cannot use this recording: ${facts.unusable}`);
      this.panel.show(facts);
      this.updateEvidence();
      const isWaiting = facts.probabilities === null && !this.panel.isHidden && !facts.unusable;
      if (isWaiting) this.timer = setTimeout(() => this.reload(record), POLL);
      return null;
    } catch (error) {
      if (this.record !== record) return null;
      this.panel.clear();
      fill(this.details);
      const isSaid = this.message.textContent.includes(error.message); // both failed for the same reason
      if (!isSaid) showAlert("facts", error.message, button("Try again", () => this.showFacts(record)));
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
    showAlert("facts", "");
  }

  showPosition() {
    const { queue } = this.page;
    const position = queue.position(this.record);
    this.position.textContent = position < 0 ? "" : `${formatCount(queue.start + position + 1)} of ${formatCount(queue.total)}`;
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
    this.updateEvidence();
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
    const toggle = (text, isOn, run, key) => button(text, run, { key, "aria-pressed": String(Boolean(isOn)), class: "toggle" });
    fill(
      this.toolbar,
      choice("Layout", LAYOUTS, settings.layout, (layout) => this.set({ layout })),
      choice("Speed in mm/s", SPEEDS.map((speed) => [speed, String(speed)]), settings.speed, (speed) => this.set({ speed })),
      build("span", { class: "unit", text: "mm/s" }),
      choice("Gain in mm/mV", GAINS.map((gain) => [gain, String(gain)]), settings.gain, (gain) => this.set({ gain })),
      build("span", { class: "unit", text: "mm/mV" }),
      choice("Signal", KINDS, settings.kind, (kind) => this.set({ kind })),
      choice("Size", [[false, "Fit"], [true, "True size"]], settings.isTrueSize, (isTrueSize) => this.set({ isTrueSize })),
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
    const scale = `${Number(speed.toFixed(speed < 10 ? 1 : 0))} mm/s · ${view.gain} mm/mV`;
    const size = settings.isTrueSize ? (view.magnification > 1 ? `true size × ${view.magnification.toFixed(2)}` : "true size") : `${Math.round(100 * view.magnification)} %`;
    const where = point && view.signal ? `${view.signal.traces[point.lead].name} · ${formatTime(point.time)} · ${point.millivolts.toFixed(2).replace("-", "−")} mV` : "";
    this.readout.textContent = `${scale} · ${size}${where ? `   ${where}` : ""}`;
  }

  /** Describe the paper for those who cannot see it. */
  describePaper() {
    const { signal } = this.paper.view;
    if (!signal) return;
    const leads = signal.traces.map((trace) => trace.name).join(", ");
    this.paper.overlay.setAttribute("aria-label", `ECG of ${this.record}: ${formatSeconds(signal.seconds)}, leads ${leads}, ${settings.kind} signal`);
  }

  get methods() {
    return this.page.session.methods?.[this.panel.selected] ?? [];
  }

  toggleEvidence() {
    changeSettings({ showsEvidence: !settings.showsEvidence });
    this.updateEvidence();
  }

  changeMethod() {
    if (this.methods.length < 2) return;
    changeSettings({ method: after(this.methods, this.methods.includes(settings.method) ? settings.method : this.methods[0]), showsEvidence: true });
    this.updateEvidence();
  }

  /** Load and draw the evidence for the selected class, if it is wanted. */
  async updateEvidence() {
    const { record, panel } = this;
    const className = panel.selected;
    const { methods } = this;
    const method = methods.includes(settings.method) ? settings.method : methods[0];
    const show = (state, isFailed = false) => this.fillEvidence(method, state, isFailed);
    if (panel.isHidden || !className || !method || !settings.showsEvidence) {
      this.paper.setShading(null);
      return show(method || panel.isHidden || !className ? "" : "No method has proved itself for this class.");
    }
    const key = `${record} ${className} ${method}`;
    if (this.shown === key && this.paper.shading) return show("");
    this.wanted = key;
    this.paper.setShading(null);
    show("Computing …");
    try {
      const shading = await this.page.loader.explanation(record, className, method);
      if (this.wanted !== key || this.record !== record || !settings.showsEvidence || panel.selected !== className) return;
      this.shown = key;
      this.paper.setShading(shading);
      show("");
    } catch (error) {
      if (this.wanted !== key || this.record !== record) return;
      show(error.message, true);
      if (error.status === 503) setTimeout(() => this.wanted === key && this.record === record && this.updateEvidence(), RETRY);
    }
  }

  fillEvidence(method, state, isFailed) {
    const { panel, methods } = this;
    const options = methods.map((name) => [name, METHODS[name] ?? capitalise(name.replaceAll("_", " "))]);
    const pick = (name) => {
      changeSettings({ method: name, showsEvidence: true });
      this.updateEvidence();
    };
    const focused = panel.evidence.contains(document.activeElement) ? document.activeElement.dataset.part : null;
    fill(
      panel.evidence,
      button("Evidence", () => this.toggleEvidence(), {
        key: "E", class: "toggle", data: { part: "toggle" }, "aria-pressed": String(Boolean(settings.showsEvidence && method)),
        disabled: !method || panel.isHidden,
      }),
      options.length > 1 && select("Method of the evidence", options, method, pick, { data: { part: "method" }, disabled: panel.isHidden }),
      build("span", { class: isFailed ? "failed" : "muted", text: state || (method && settings.showsEvidence && !panel.isHidden ? `for ${panel.selected}` : "") }),
    );
    if (focused) panel.evidence.querySelector(`[data-part="${focused}"]`)?.focus();
  }
}
