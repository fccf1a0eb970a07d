/** What the model says of a class, and by which rule it predicts it, in words. */

import { build } from "./dom.js";
import { formatProbability } from "./format.js";

const CALIBRATED = "Calibrated: of 100 recordings with a calibrated probability of 0.30, about 30 have the diagnosis.";
const RULES = {
  argmax: "only the most probable class is predicted",
  expected_credit: "the set of classes with the best expected score is predicted",
  vote: "predicted if more than half of the networks do",
};
const EXCEPTION = "here below it: implied by another class, or no other is predicted";

const isKnown = (value) => value !== undefined && value !== null;

/** Return the parts of a statement on a class: label, prediction, probability and rule. */
export function describeDecision(facts, name) {
  const label = build("b", { text: facts.labels?.has(name) ? "Labelled" : "Not labelled" });
  if (facts.probabilities === null) return [label, ` · ${facts.unusable ? "no prediction" : "prediction follows"}`];
  const probability = facts.probabilities[name];
  if (!isKnown(probability)) return [label, " · not predicted by this model"];
  const isPredicted = Boolean(facts.predicted?.has(name));
  const calibrated = facts.calibrated?.[name];
  const numbers = `Probability ${formatProbability(probability)}`;
  return [
    label,
    " · ",
    build("b", { text: isPredicted ? "predicted" : "not predicted" }),
    build(
      "span",
      { class: "rule", title: isKnown(calibrated) ? CALIBRATED : null },
      `${numbers}${isKnown(calibrated) ? `, calibrated ${formatProbability(calibrated)}` : ""}`,
      ` · ${describeRule(facts, name, isPredicted)}`,
    ),
  ];
}

/** Return from which probability on a class is predicted, or what else decides. */
function describeRule(facts, name, isPredicted) {
  const threshold = facts.thresholds?.[name];
  if (!isKnown(threshold)) return RULES[facts.decision] ?? `decided by ${facts.decision}`;
  if (threshold > 1) return "never predicted: its threshold is above 1";
  const isException = isPredicted && facts.probabilities[name] < threshold;
  return `predicted from ${formatProbability(threshold)} on${isException ? ` (${EXCEPTION})` : ""}`;
}
