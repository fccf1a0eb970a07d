/** The keys of the view of a recording, for the keyboard and for the help. */

import { LAYOUTS } from "./layout.js";
import { settings } from "./storage.js";

export const SPEEDS = [25, 50]; // mm/s
export const GAINS = [5, 10, 20]; // mm/mV
const LAYOUT_NAMES = LAYOUTS.map(([name]) => name);

/** Return the value after another one in a list, from its end the first. */
export const after = (values, value) => values[(values.indexOf(value) + 1) % values.length];

/** Return what each key does, in groups: `keys`, `text`, `run(event)`, and `shift` if Shift is told apart. */
export function listRecordingKeys(view) {
  const { panel, evidence } = view;
  const { calipers } = view.paper;
  const group = (title, entries) =>
    entries.map(([keys, text, run, shift = false]) => ({ group: title, keys, text, run, shift }));
  return [
    ...group("Review", [
      [["P", "1"], "Present", () => panel.answer("present")],
      [["A", "2"], "Absent", () => panel.answer("absent")],
      [["U", "3"], "Unsure", () => panel.answer("unsure")],
      [["ArrowUp"], "Class above", () => panel.step(-1)],
      [["ArrowDown"], "Class below", () => panel.step(1)],
      [["Enter"], "Next class to review", () => panel.select(panel.firstOpen())],
      [["T"], "Write a comment (Enter ends it)", () => panel.comment.focus()],
      [["V"], "Show labels and predictions, once answered (blinded review)", () => view.reveal()],
      [["N"], "Next recording", () => view.go(1)],
      [["B"], "Recording before", () => view.go(-1)],
      [["Escape"], "Remove the calipers, or back to the list", () => view.escape()],
    ]),
    ...group("Paper", [
      [["L"], "Next layout", () => view.set({ layout: after(LAYOUT_NAMES, settings.layout) })],
      [["S"], "25 or 50 mm/s", () => view.set({ speed: after(SPEEDS, settings.speed) })],
      [["G"], "5, 10 or 20 mm/mV", () => view.set({ gain: after(GAINS, settings.gain) })],
      [["F"], "Raw or filtered signal", () => view.set({ kind: after(["raw", "filtered"], settings.kind) })],
      [["X"], "True size, or fit to the window", () => view.set({ isTrueSize: !settings.isTrueSize })],
      [["+", "="], "Zoom in (or turn the wheel)", () => view.zoom(1.25)],
      [["-"], "Zoom out", () => view.zoom(0.8)],
      [["0"], "Normal zoom (or double-click)", () => view.zoom(null)],
      [["ArrowLeft"], "Back in time (Shift: a whole page)", (event) => view.step(-1, event), true],
      [["ArrowRight"], "On in time (Shift: a whole page)", (event) => view.step(1, event), true],
      [["Home"], "Beginning", () => view.moveTo(0)],
      [["End"], "End", () => view.moveTo(Infinity)],
    ]),
    ...group("Measure", [
      [["C"], "Calipers: drag across the trace", () => view.toggleCalipers()],
      [["M"], "March: repeat the interval", () => view.changeCalipers({ isMarching: !calipers.isMarching })],
      [["K"], "Snap the calipers to peaks", () => view.changeCalipers({ snaps: !calipers.snaps })],
      [["←", "→"], "Move the second line by a sample (Shift: the first)", () => {}],
    ]),
    ...group("Evidence", [
      [["E"], "Show or hide the evidence for the class", () => evidence.toggle()],
      [["D"], "The other method", () => evidence.changeMethod()],
    ]),
  ];
}
