/** Dialogs: keys, settings with the size of the screen, and the reviewer's name. */

import { build, button, choice, openDialog } from "./dom.js";
import { changeSettings, settings } from "./storage.js";

const CARD = 85.6; // mm; the width of a bank card (ISO/IEC 7810 ID-1)
const NAMES = {
  ArrowUp: "↑",
  ArrowDown: "↓",
  ArrowLeft: "←",
  ArrowRight: "→",
  Escape: "Esc",
  PageUp: "Page ↑",
  PageDown: "Page ↓",
};

/** List what each key does, by group. */
export function openHelp(keys) {
  const groups = Map.groupBy(keys, (key) => key.group);
  const parts = [...groups].map(([title, items]) =>
    build(
      "section",
      {},
      build("h3", { text: title }),
      build(
        "dl",
        { class: "keys" },
        items.flatMap(({ keys: names, text }) => [
          build(
            "dt",
            {},
            names.filter((name) => name !== "=").map((name) => build("kbd", { text: NAMES[name] ?? name })),
          ),
          build("dd", { text }),
        ]),
      ),
    ),
  );
  openDialog("Keys", build("div", { class: "key-groups" }, parts));
}

/** Let the user set size, colours, and what follows an answer. */
export function openSettings(onchange) {
  const apply = (changes) => {
    changeSettings(changes);
    onchange(changes);
    press();
  };
  const bar = build("div", { class: "card-bar", "aria-hidden": "true" }, build("span", { text: "85.6 mm" }));
  const slider = build("input", {
    type: "range",
    min: "2",
    max: "14",
    step: "0.01",
    value: String(settings.pixelsPerMm),
    "aria-label": "Width of the bar",
    oninput: () => resize(Number(slider.value)),
    onchange: () => apply({ pixelsPerMm: Number(slider.value) }),
  });
  const number = build("output", {});
  const resize = (pixels) => {
    bar.style.width = `${pixels * CARD}px`;
    number.textContent = `${pixels.toFixed(2)} pixels for 1 mm`;
  };
  const group = (name, label, options) => {
    const element = choice(label, options, settings[name], (value) => apply({ [name]: value }));
    element.dataset.setting = name;
    return element;
  };
  const dialog = openDialog(
    "Settings",
    build(
      "section",
      {},
      build("h3", { text: "Size of the screen" }),
      build("p", {
        text: "Hold a bank card against the screen and make the bar as wide as the card. “True size” then draws 25 mm/s as 25 mm.",
      }),
      bar,
      build("div", { class: "slider" }, slider, number),
    ),
    build(
      "section",
      {},
      build("h3", { text: "After the last answer of a recording" }),
      group("goesOn", "After the last answer", [
        [false, "Stay"],
        [true, "Go on to the next"],
      ]),
    ),
    build(
      "section",
      {},
      build("h3", { text: "Colours" }),
      group("theme", "Colours", [
        ["system", "As the system"],
        ["light", "Light"],
        ["dark", "Dark"],
      ]),
      build("p", { class: "muted", text: "The ECG paper is always light." }),
    ),
  );
  const press = () => {
    for (const element of dialog.querySelectorAll("[data-setting] button")) {
      element.setAttribute(
        "aria-pressed",
        String(element.dataset.value === String(settings[element.parentElement.dataset.setting])),
      );
    }
  };
  resize(settings.pixelsPerMm);
}

/**
 * Build the form that asks for the reviewer's name.
 *
 * It begins with the server's default reviewer, else with the name that this browser remembers. Enter accepts it.
 */
export function buildLogin(session, name, onlogin) {
  const input = build("input", {
    type: "text",
    id: "reviewer",
    name: "reviewer",
    maxlength: 60,
    required: true,
    autocomplete: "name",
    value: session.default_reviewer || name,
    placeholder: "Your name",
  });
  const message = build("p", { class: "failed", role: "alert" });
  const form = build(
    "form",
    {
      class: "login",
      onsubmit: async (event) => {
        event.preventDefault();
        message.textContent = "";
        try {
          await onlogin(input.value.trim());
        } catch (error) {
          message.textContent = error.message;
        }
      },
    },
    build("h1", { text: "Who reviews?" }),
    build("p", { text: "Your verdicts are saved in a file of this name. Use the same name each time." }),
    build("label", { for: "reviewer", text: "Name" }),
    input,
    message,
    build("button", { type: "submit", class: "primary", text: "Begin" }),
    session.blinded &&
      build("p", { class: "muted", text: "Blinded review: labels and predictions are shown once you have answered." }),
  );
  setTimeout(() => {
    input.focus();
    input.select();
  });
  return form;
}
