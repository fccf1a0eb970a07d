/** Start the workbench: session, addresses, keys, and the bar at the top. */

import { getSession, login, logout } from "./api.js";
import { AgreementView } from "./agreement.js";
import { buildLogin, openHelp, openSettings } from "./dialogs.js";
import { build, button, fill, showAlert, showToast } from "./dom.js";
import { formatCount, pluralise } from "./format.js";
import { ListView, readQuery } from "./list.js";
import { Loader } from "./loader.js";
import { Outbox } from "./outbox.js";
import { Queue } from "./queue.js";
import { RecordingView } from "./recording.js";
import { load, settings, store } from "./storage.js";

const POLL = 3000; // ms between questions for the progress of predictions
const SLOW_POLL = 30_000; // ms between questions for what has changed, after the last prediction
const main = document.getElementById("main");
const bar = document.getElementById("bar");

/** What the views share. */
class Page {
  constructor(session) {
    this.session = session;
    this.lastRecord = null;
    this.loader = new Loader();
    this.queue = new Queue();
    this.outbox = new Outbox(
      session.reviewer,
      () => login(session.reviewer),
      (saved) => this.followOutbox(saved),
    );
    this.list = new ListView(this);
    this.recording = new RecordingView(this);
    this.agreement = new AgreementView(this);
    this.view = null;
    this.buildBar();
    window.addEventListener("hashchange", () => this.follow());
    window.addEventListener("keydown", (event) => this.press(event));
    window.addEventListener("storage", (event) => {
      // Another tab has another reviewer, in whose name the server would save reviews of this tab.
      if (event.key?.endsWith(":reviewer") && load("reviewer", session.reviewer) !== session.reviewer)
        location.reload();
    });
    window.addEventListener("beforeunload", (event) => this.outbox.waiting.length && event.preventDefault());
    this.follow();
    this.followOutbox();
    this.outbox.send();
    showAlert("notices", session.notices.join(" "));
    this.timer = setTimeout(() => this.poll(), POLL);
  }

  get keys() {
    const general = [
      { group: "Everywhere", keys: ["?"], text: "This list of keys", run: () => openHelp(this.keys) },
      { group: "Everywhere", keys: [";"], text: "Settings", run: () => this.openSettings() },
    ];
    return [...(this.view?.keys ?? []), ...general];
  }

  buildBar() {
    this.links = {
      list: build("a", { href: "#/", text: "Recordings" }),
      agreement: build("a", { href: "#/agreement", text: "Agreement" }),
    };
    this.progress = build("span", { class: "predicting", role: "status" });
    this.saving = build("span", { class: "saving", role: "status" });
    const { reviewer, model } = this.session;
    fill(
      bar,
      build(
        "a",
        { class: "brand", href: "#/" },
        build("img", { src: "/static/icon.svg", alt: "", width: "20", height: "20" }),
        build("span", { text: "ECG workbench" }),
      ),
      build("nav", { "aria-label": "Views" }, this.links.list, this.links.agreement),
      build("span", { class: "space" }),
      this.progress,
      this.saving,
      this.session.blinded && build("span", { class: "badge", text: "Blinded" }),
      model?.system && build("span", { class: "muted model-name", text: `Model ${model.system}` }),
      button(reviewer, () => this.changeReviewer(), { class: "quiet reviewer", title: "Change the reviewer" }),
      button("Settings", () => this.openSettings(), { class: "quiet", key: ";" }),
      button("Keys", () => openHelp(this.keys), { class: "quiet", key: "?" }),
    );
    bar.hidden = false;
    this.showProgress();
  }

  addressOf(record) {
    return `#/recording/${encodeURIComponent(record)}`;
  }

  openRecording(record) {
    if (this.view === this.list) this.queue = this.list.makeQueue();
    const isReplaced = this.view === this.recording; // so that the browser's Back leads to the list
    if (isReplaced) {
      history.replaceState(null, "", this.addressOf(record));
      this.follow();
    } else location.hash = this.addressOf(record);
  }

  openList(query = null) {
    const values = new URLSearchParams();
    for (const [name, value] of Object.entries(query ?? this.list.query)) {
      if (value) values.set(name, value === true ? "1" : value);
    }
    const address = values.size ? `#/?${values}` : "#/";
    if (location.hash === address || (location.hash === "" && address === "#/")) this.follow();
    else location.hash = address;
  }

  /** Show what the address names. */
  follow() {
    const address = location.hash.slice(1) || "/";
    const record = address.match(/^\/recording\/(.+)$/)?.[1];
    const view = record ? this.recording : address.startsWith("/agreement") ? this.agreement : this.list;
    if (this.view !== view) {
      this.view?.close?.();
      this.view = view;
      fill(main, view.element);
    }
    this.links.list.toggleAttribute("aria-current", view !== this.agreement);
    this.links.agreement.toggleAttribute("aria-current", view === this.agreement);
    if (record) {
      this.lastRecord = decodeName(record);
      document.title = `${this.lastRecord} – ECG workbench`;
      this.recording.open(this.lastRecord);
    } else {
      document.title = "ECG workbench";
      if (view === this.list) this.list.open(readQuery(address.split("?")[1] ?? "", this.session));
      else this.agreement.open();
    }
  }

  press(event) {
    const isTyping = event.target.closest?.("input:not([type=checkbox], [type=range]), textarea, select");
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]") || isTyping) return;
    const isPressed = (key) => (key.length === 1 ? key.toLowerCase() === event.key.toLowerCase() : key === event.key);
    const entry = this.keys.find(
      ({ keys, shift }) => keys.some(isPressed) && (!event.shiftKey || shift || event.key.length === 1),
    );
    if (!entry || (event.key === "Enter" && event.target.closest?.("button, a"))) return;
    if (event.repeat && entry.group === "Review" && !event.key.startsWith("Arrow")) return;
    event.preventDefault();
    entry.run(event);
  }

  openSettings() {
    openSettings((changes) => {
      applyTheme();
      if ("pixelsPerMm" in changes) this.recording.applySettings();
    });
  }

  async changeReviewer() {
    if (this.outbox.waiting.length) return showToast("Some reviews are not saved yet. Wait until they are.", "failed");
    try {
      await logout();
      location.reload();
    } catch (error) {
      showToast(error.message, "failed");
    }
  }

  /** Say whether all reviews are saved. */
  followOutbox(saved = null) {
    const { waiting, problem, refused } = this.outbox;
    if (saved) this.recording.takeSaved(saved);
    else if (this.view === this.recording) this.recording.panel.render();
    if (saved && saved.record !== this.recording.record)
      showToast(`${saved.record}, ${saved.class}: ${saved.verdict}. Saved.`);
    this.saving.classList.toggle("failed", Boolean(waiting.length && problem));
    this.saving.textContent = waiting.length
      ? problem
        ? `${pluralise(waiting.length, "review")} not saved`
        : "Saving …"
      : "All reviews saved";
    const kept = this.outbox.isStored === false ? "Keep this page open." : "This browser keeps them and tries again.";
    const text =
      waiting.length && problem ? `${pluralise(waiting.length, "review")} not saved yet. ${problem} ${kept}` : "";
    showAlert(
      "unsent",
      text,
      button("Try now", () => this.outbox.send()),
    );
    const [first] = refused;
    showAlert(
      "refused",
      first
        ? `${first.review.record}, ${first.review.class}: ${first.review.verdict} was not saved. ${first.message}`
        : "",
      button("Dismiss", () => this.outbox.discard(first)),
    );
  }

  /** Ask for the progress of predictions, and for what has changed since the server started. */
  async poll() {
    const { predicted, failed } = this.session.counts;
    try {
      const session = await getSession();
      this.session.counts = session.counts;
      showAlert("notices", session.notices.join(" "));
      if (this.view === this.list && (session.counts.predicted !== predicted || session.counts.failed !== failed))
        this.list.refresh();
      this.showProgress();
    } catch {
      // The next attempt follows; what the user does meanwhile reports its own errors.
    }
    this.timer = setTimeout(() => this.poll(), this.isComplete ? SLOW_POLL : POLL);
  }

  get isComplete() {
    const { recordings, predicted, failed } = this.session.counts;
    return predicted + failed >= recordings;
  }

  showProgress() {
    const { recordings, predicted, failed } = this.session.counts;
    if (this.isComplete) return fill(this.progress);
    const progress = build("progress", { max: recordings, value: predicted + failed, "aria-label": "Predictions" });
    fill(
      this.progress,
      build("span", { text: `Predicting ${formatCount(predicted + failed)} of ${formatCount(recordings)}` }),
      progress,
    );
  }
}

function decodeName(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function applyTheme() {
  if (settings.theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = settings.theme;
}

async function start() {
  applyTheme();
  try {
    const session = await getSession();
    if (session.reviewer) {
      store("reviewer", session.reviewer);
      return new Page(session);
    }
    bar.hidden = true;
    fill(
      main,
      buildLogin(session, load("reviewer", ""), async (name) => {
        await login(name);
        await start();
      }),
    );
  } catch (error) {
    fill(main, build("div", { class: "boot" }, build("p", { text: error.message }), button("Try again", start)));
  }
}

start();
