/** The view of agreement between reviewers, labels and model. */

import { getAgreement } from "./api.js";
import { build, button, fill, select } from "./dom.js";
import { VERDICTS } from "./facts.js";
import { capitalise, formatCount, formatSigned, pluralise } from "./format.js";

const ALL = "all"; // instead of a class
const NOTES = [
  "Kappa is 1 if two always agree, 0 if they agree as often as by chance, and negative if they agree less often.",
  "Kappa of all classes together compares disagreements with those by chance within each class.",
  "In brackets: 95 % of bootstrap samples of the recordings. “Not enough”: more than 5 % of the samples have no kappa.",
  "A dash: one of the two always says the same, so that kappa is undefined.",
  "Unsure verdicts are left out of kappa. Labels and model count where a reviewer has given a verdict.",
  "The last verdict of a reviewer on a class counts; if some are blinded, the last of these.",
  "To compare with several models: python -m ecg agreement REVIEWS --data DATA --model MODEL1 MODEL2.",
];

/** Shows kappa of each pair, and the recordings on which reviewers disagree. */
export class AgreementView {
  constructor(page) {
    this.page = page;
    this.className = ALL;
    this.element = build("div", { class: "agreement", tabindex: "0", role: "region", "aria-label": "Agreement" });
  }

  get keys() {
    return [{ group: "Agreement", keys: ["R"], text: "Load the reviews again", run: () => this.open() }];
  }

  async open() {
    try {
      this.answer = await getAgreement();
      this.render();
    } catch (error) {
      const message = build(
        "div",
        { class: "list-message" },
        build("p", { text: error.message }),
        button("Try again", () => this.open()),
      );
      fill(this.element, message);
    }
  }

  render() {
    const { recordings, raters, pairs, contested, caveats } = this.answer;
    const reviewers = raters.filter((rater) => rater.kind === "reviewer");
    const head = build(
      "header",
      {},
      build("h1", { text: "Agreement" }),
      build("p", { class: "muted", text: recordings ? `on ${pluralise(recordings, "reviewed recording")}` : "" }),
      build("span", { class: "space" }),
      button("Load again", () => this.open(), { key: "R" }),
    );
    if (!reviewers.length) {
      fill(
        this.element,
        head,
        build("p", {
          class: "muted",
          text: "There are no reviews to compare yet. Open a recording and give a verdict.",
        }),
      );
      return;
    }
    fill(
      this.element,
      head,
      ...caveats.map((text) => build("p", { class: "caveat", text })),
      this.buildKappas(raters, pairs),
      buildSection("Reviewers", buildReviewers(reviewers)),
      contested.length > 0 &&
        buildSection("Recordings on which reviewers disagree", this.buildContested(raters, contested)),
    );
  }

  buildKappas(raters, pairs) {
    const counts = new Map();
    for (const pair of pairs)
      for (const part of pair.classes) counts.set(part.class, (counts.get(part.class) ?? 0) + part.decisions);
    const classes = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a));
    if (!classes.includes(this.className)) this.className = ALL;
    const names = new Map(this.page.session.classes.map((item) => [item.abbreviation, item.name]));
    const options = [
      [ALL, "All classes together"],
      ...classes.map((name) => [name, `${name} – ${names.get(name) ?? ""}`]),
    ];
    const choose = (name) => {
      this.className = name;
      this.render();
      this.element.querySelector("select").focus();
    };
    const shown = pairs.map((pair) => ({
      first: pair.first,
      second: pair.second,
      ...(this.className === ALL ? pair : pair.classes.find((part) => part.class === this.className)),
    }));
    return build(
      "section",
      {},
      build(
        "div",
        { class: "section-head" },
        build("h2", { text: "Kappa of each pair" }),
        classes.length > 1 && select("Class", options, this.className, choose),
      ),
      buildMatrix(
        raters.map((rater) => rater.name),
        shown,
      ),
      build(
        "ul",
        { class: "explained" },
        NOTES.map((text) => build("li", { text })),
      ),
    );
  }

  buildContested(raters, contested) {
    const rows = contested.map((item) => [
      build("a", { href: this.page.addressOf(item.record), text: item.record }),
      item.class,
      ...item.verdicts.map((verdict) => verdict ?? ""),
      item.comments.map(({ reviewer, comment }) => `${reviewer}: ${comment}`).join("; "),
    ]);
    return buildTable(["Recording", "Class", ...raters.map((rater) => nameRater(rater.name)), "Comments"], rows);
  }
}

const nameRater = (name) => (["labels", "model"].includes(name) ? capitalise(name) : name);
const buildSection = (title, ...parts) => build("section", {}, build("h2", { text: title }), ...parts);

function buildReviewers(reviewers) {
  const counts = ["recordings", ...VERDICTS];
  return buildTable(
    ["Reviewer", ...counts.map(capitalise)],
    reviewers.map((rater) => [rater.name, ...counts.map((name) => rater[name])]),
  );
}

/** Build the matrix of kappas, with the same raters for each class. */
function buildMatrix(raters, pairs) {
  const find = (a, b) =>
    pairs.find((pair) => (pair.first === a && pair.second === b) || (pair.first === b && pair.second === a));
  const head = build(
    "tr",
    {},
    build("td", { class: "diagonal" }),
    raters.map((name) => build("th", { scope: "col", text: nameRater(name), title: name })),
  );
  const rows = raters.map((a) =>
    build(
      "tr",
      {},
      build("th", { scope: "row", text: nameRater(a), title: a }),
      raters.map((b) => buildKappa(find(a, b), a === b)),
    ),
  );
  return build(
    "div",
    { class: "scroll" },
    build("table", { class: "matrix" }, build("thead", {}, head), build("tbody", {}, rows)),
  );
}

function buildKappa(pair, isDiagonal) {
  if (isDiagonal) return build("td", { class: "diagonal" });
  const { kappa = null, low = null, high = null, decisions = 0, agreed = 0, unsure = 0 } = pair ?? {};
  const hasInterval = low !== null && high !== null;
  const missing = kappa === null ? "\u00a0" : "(not enough)";
  const interval = hasInterval ? `(${formatSigned(low)} to ${formatSigned(high)})` : missing;
  const counts = `${formatCount(agreed)} of ${formatCount(decisions)} the same${unsure ? `, ${formatCount(unsure)} unsure` : ""}`;
  const cell = build(
    "td",
    { class: kappa < 0 ? "negative" : "" },
    build("b", { text: formatSigned(kappa) }),
    build("span", { text: interval }),
    build("small", { text: counts }),
  );
  cell.style.setProperty("--share", String(Math.min(1, Math.abs(kappa ?? 0))));
  return cell;
}

/** Build a table of texts, numbers and links. */
function buildTable(header, rows) {
  const isNumber = header.map((_, index) => rows.every((row) => typeof row[index] === "number"));
  const format = (value) => (typeof value === "number" ? formatCount(value) : value);
  return build(
    "div",
    { class: "scroll" },
    build(
      "table",
      { class: "plain" },
      build(
        "thead",
        {},
        build(
          "tr",
          {},
          header.map((text, index) => build("th", { scope: "col", class: isNumber[index] ? "number" : "", text })),
        ),
      ),
      build(
        "tbody",
        {},
        rows.map((row) =>
          build(
            "tr",
            {},
            row.map((value, index) => {
              if (index === 0) return build("th", { scope: "row" }, value);
              const kind = isNumber[index] ? "number" : VERDICTS.includes(value) ? `verdict ${value}` : "";
              return build("td", { class: kind, text: format(value) });
            }),
          ),
        ),
      ),
    ),
  );
}
