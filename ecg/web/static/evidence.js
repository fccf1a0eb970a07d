/** Shading of the evidence for the selected class, and its controls. */

import { build, button, fill, select } from "./dom.js";
import { capitalise } from "./format.js";
import { after } from "./keys.js";
import { changeSettings, settings } from "./storage.js";

const METHODS = { integrated_gradients: "Gradients", smoothgrad: "SmoothGrad", occlusion: "Occlusion" };
const RETRY = 3000; // ms until a busy server is asked again
const BUSY = 503;

/** Loads evidence and gives it to the paper. */
export class Evidence {
  /** @param {object} page `session` and `loader`. */
  constructor(page, paper, panel) {
    this.page = page;
    this.paper = paper;
    this.panel = panel;
    this.wanted = null; // what is being loaded
    this.shown = null;
    this.controller = null; // of the request for what is being loaded
  }

  /** The methods that are offered for the selected class. */
  get methods() {
    return this.page.session.methods?.[this.panel.selected] ?? [];
  }

  get method() {
    return this.methods.includes(settings.method) ? settings.method : this.methods[0];
  }

  /** For which class evidence is shown, and whether its methods are tested. */
  describeShown() {
    const { selected } = this.panel;
    const isUntested = this.page.session.untested_methods?.includes(selected);
    return `for ${selected}${isUntested ? ", not tested for this class" : ""}`;
  }

  toggle() {
    changeSettings({ showsEvidence: !settings.showsEvidence });
    this.update();
  }

  changeMethod() {
    if (this.methods.length > 1) this.choose(after(this.methods, this.method));
  }

  choose(method) {
    changeSettings({ method, showsEvidence: true });
    this.update();
  }

  /** Load and draw the evidence for the selected class, if it is wanted. */
  async update() {
    const { panel, method } = this;
    const record = panel.facts?.record;
    const className = panel.selected;
    if (!record || panel.isHidden || !className || !method || !settings.showsEvidence) {
      this.clear();
      const isMissing = record && className && !method && !panel.isHidden;
      return this.render(isMissing ? "No method has proved itself for this class." : "");
    }
    const key = JSON.stringify([record, className, method]);
    if (this.shown === key && this.paper.shading) return this.render(this.describeShown());
    if (this.wanted === key && this.controller) return; // on its way
    this.clear();
    this.wanted = key;
    this.controller = new AbortController();
    this.render("Computing …");
    try {
      const shading = await this.page.loader.explanation(record, className, method, this.controller.signal);
      if (this.wanted !== key) return;
      this.shown = key;
      this.controller = null;
      this.paper.setShading(shading);
      this.render(this.describeShown());
    } catch (error) {
      if (this.wanted !== key) return;
      this.controller = null;
      this.render(error.message, true);
      if (error.status === BUSY) setTimeout(() => this.wanted === key && this.update(), RETRY);
    }
  }

  /** Forget the evidence that is shown, and no longer wait for what is being loaded. */
  clear() {
    this.controller?.abort();
    this.controller = this.wanted = this.shown = null;
    this.paper.setShading(null);
  }

  render(state, isFailed = false) {
    const { panel, methods, method } = this;
    const box = panel.evidence;
    const options = methods.map((name) => [name, METHODS[name] ?? capitalise(name.replaceAll("_", " "))]);
    const focused = box.contains(document.activeElement) ? document.activeElement.dataset.part : null;
    const disabled = !method || panel.isHidden;
    const isOn = String(Boolean(settings.showsEvidence && method));
    const choose = (name) => this.choose(name);
    fill(
      box,
      button("Evidence", () => this.toggle(), {
        key: "E",
        class: "toggle",
        data: { part: "toggle" },
        "aria-pressed": isOn,
        disabled,
      }),
      options.length > 1 &&
        select("Method of the evidence", options, method, choose, { data: { part: "method" }, disabled }),
      build("span", { class: isFailed ? "failed" : "muted", text: state }),
    );
    if (focused) box.querySelector(`[data-part="${focused}"]`)?.focus();
  }
}
