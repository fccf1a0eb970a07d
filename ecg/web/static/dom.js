/** Build elements, dialogs and messages. Text is always set as text, never as markup. */

/**
 * Build an element.
 *
 * @param {string} tag Its name.
 * @param {object} properties `class`, `text`, `data`, handlers as `onclick`; other keys are attributes.
 * @param {...(Node|string|null|false)} children What it contains; strings become text.
 */
export function build(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...selectPresent(children));
  return element;
}

/** Return children as one list, without those that are missing. */
const selectPresent = (children) =>
  children.flat().filter((child) => child !== null && child !== false && child !== undefined);

/** Replace the content of an element. */
export function fill(element, ...children) {
  element.replaceChildren(...selectPresent(children));
  return element;
}

/** Build a button with an optional hint of its key. */
export function button(text, onclick, { key, ...properties } = {}) {
  const parts = [build("span", { text })];
  if (key) parts.push(build("kbd", { text: key }));
  return build("button", { type: "button", onclick, ...properties }, ...parts);
}

/** Build a group of buttons of which one is pressed. */
export function choice(label, options, chosen, onchoose) {
  const group = build("div", { class: "choice", role: "group", "aria-label": label });
  for (const [value, text] of options) {
    group.append(
      build("button", {
        type: "button",
        text,
        data: { value: String(value) },
        "aria-pressed": String(value === chosen),
        onclick: () => onchoose(value),
      }),
    );
  }
  return group;
}

/** Build a select with options of value and text. */
export function select(label, options, chosen, onchange, properties = {}) {
  const element = build("select", { "aria-label": label, onchange: () => onchange(element.value), ...properties });
  for (const [value, text] of options) {
    element.append(build("option", { value, text, selected: String(value) === String(chosen ?? "") }));
  }
  return element;
}

/** Open a modal dialog with a title; it is removed when it closes. Returns the dialog. */
export function openDialog(title, ...children) {
  document.querySelector("dialog")?.close();
  const heading = build("h2", { text: title, id: "dialog-title" });
  const dialog = build("dialog", { "aria-labelledby": "dialog-title" });
  const close = button("Close", () => dialog.close(), { key: "Esc", class: "quiet" });
  dialog.append(build("header", {}, heading, close), ...children);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Show a short message that disappears by itself. */
export function showToast(text, kind = "") {
  const toast = build("p", { class: `toast ${kind}`, text });
  document.getElementById("toasts").replaceChildren(toast);
  setTimeout(() => toast.remove(), 4000);
}

/** Show or remove a lasting message below the bar. Each key has one message. */
export function showAlert(key, text, ...buttons) {
  const alerts = document.getElementById("alerts");
  for (const alert of [...alerts.children]) if (alert.dataset.key === key) alert.remove();
  if (text) alerts.append(build("p", { class: "alert", data: { key } }, build("span", { text }), ...buttons));
}
