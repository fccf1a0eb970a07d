/** The view of agreement between reviewers, labels and model. */

import { getAgreement } from "./api.js";
import { build, button, fill, select } from "./dom.js";
import { capitalise, formatCount, formatSigned } from "./format.js";

const ALL = "all"; // in place of a class
const NOTES = [
  "Kappa is 1 if two always agree, 0 if they agree as often as by chance, and negative if they agree less often.",
  "In brackets: 95 % of bootstrap samples of the recordings. A dash: one of the two always says the same, so that kappa is undefined.",
  "Unsure verdicts are left out of kappa. Labels and model count where a reviewer has given a verdict.",
];
const NUMBERS = ["recordings", "verdicts", "present", "absent", "unsure", "blinded"];
const ORDINARY = [...NUMBERS, "first", "last", "reviewer", "class", "label", "labels", "prediction", "model", "record", "comments"];
const TIMES = ["first", "last"];

/** Return the rows of a table as objects by the names of its header. */
function readTable(table) {
  const [header, ...rows] = table ?? [[]];
  return rows.map((row) => Object.fromEntries(header.map((name, index) => [name, row[index]])));
}

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
      fill(this.element, build("div", { class: "list-message" }, build("p", { text: error.message }), button("Try again", () => this.open())));
    }
  }

  render() {
    const { tables } = this.answer;
    const pairs = readTable(tables.agreement);
    const reviewers = tables.reviewers?.slice(1) ?? [];
    const head = build("header", {}, build("h1", { text: "Agreement" }), build("span", { class: "space" }), button("Load again", () => this.open(), { key: "R" }));
    if (!reviewers.length) {
      fill(this.element, head, build("p", { class: "muted", text: "There are no reviews yet. Open a recording and give a verdict." }));
      return;
    }
    fill(
      this.element, head,
      pairs.length ? this.buildKappas(pairs) : build("p", { class: "muted", text: "Agreement needs two reviewers, or labels and a model, on the same recordings." }),
      buildSection("Reviewers", buildTable(tables.reviewers)),
      tables.judged?.length > 1 && buildSection("What reviewers say of the labels", buildTable(tables.judged)),
      tables.contested?.length > 1 && buildSection(
        `Recordings on which reviewers disagree (${formatCount(tables.contested.length - 1)})`,
        buildTable(tables.contested, (record) => build("a", { href: this.page.addressOf(record), text: record })),
      ),
    );
  }

  buildKappas(pairs) {
    const classes = [...new Set(pairs.map((pair) => pair.class))];
    if (!classes.includes(this.className)) this.className = ALL;
    const names = new Map(this.page.session.classes.map((item) => [item.abbreviation, item.name]));
    const options = classes.map((name) => [name, name === ALL ? "All classes together" : `${name} – ${names.get(name) ?? ""}`]);
    const choose = (name) => {
      this.className = name;
      this.render();
      this.element.querySelector("select").focus();
    };
    const chosen = pairs.filter((pair) => pair.class === this.className);
    return build("section", {},
      build("div", { class: "section-head" }, build("h2", { text: "Kappa of each pair" }), classes.length > 2 && select("Class", options, this.className, choose)),
      buildMatrix(chosen, pairs), build("ul", { class: "explained" }, NOTES.map((text) => build("li", { text }))));
  }
}

const buildSection = (title, ...parts) => build("section", {}, build("h2", { text: title }), ...parts);

const nameRater = (name) => (["labels", "model"].includes(name) ? capitalise(name) : name);

/** Build the matrix of kappas; the raters are those of all pairs, so that it keeps its form. */
function buildMatrix(chosen, pairs) {
  const raters = [...new Set(pairs.flatMap((pair) => [pair.first, pair.second]))];
  const find = (a, b) => chosen.find((pair) => (pair.first === a && pair.second === b) || (pair.first === b && pair.second === a));
  const head = build("tr", {}, build("th", {}), raters.map((name) => build("th", { scope: "col", text: nameRater(name), title: name })));
  const rows = raters.map((a) =>
    build("tr", {}, build("th", { scope: "row", text: nameRater(a), title: a }), raters.map((b) => buildKappa(a === b ? null : find(a, b), a === b))),
  );
  return build("div", { class: "scroll" }, build("table", { class: "matrix" }, build("thead", {}, head), build("tbody", {}, rows)));
}

function buildKappa(pair, isDiagonal) {
  if (!pair) return build("td", { class: isDiagonal ? "diagonal" : "", text: isDiagonal ? "" : "–" });
  const { kappa, decisions, unsure } = pair;
  const isDefined = kappa !== null && kappa !== undefined;
  const interval = isDefined && pair["kappa low"] !== null ? `(${formatSigned(pair["kappa low"])} to ${formatSigned(pair["kappa high"])})` : "";
  const counts = `${formatCount(pair.agreed)} of ${formatCount(decisions)} the same${unsure ? `, ${formatCount(unsure)} unsure` : ""}`;
  const cell = build("td", { class: isDefined && kappa < 0 ? "negative" : "" },
    build("b", { text: formatSigned(kappa) }), build("span", { text: interval || "\u00a0" }), build("small", { text: counts }));
  cell.style.setProperty("--share", isDefined ? String(Math.min(1, Math.abs(kappa))) : "0");
  return cell;
}

/** Build a table; `link` makes the first cell of a row. */
function buildTable([header, ...rows], link = null) {
  const format = (value, name) => {
    if (typeof value === "number") return formatCount(value);
    return TIMES.includes(name) && value ? String(value).replace("T", " ").replace(/:\d\dZ$/, " UTC") : (value ?? "");
  };
  const kind = (name) => (NUMBERS.includes(name) && rows.every((row) => typeof row[header.indexOf(name)] === "number") ? "number" : "");
  return build("div", { class: "scroll" },
    build("table", { class: "plain" },
      build("thead", {}, build("tr", {}, header.map((name) => build("th", { scope: "col", class: kind(name), text: ORDINARY.includes(name) ? capitalise(name) : name })))),
      build("tbody", {}, rows.map((row) =>
        build("tr", {}, row.map((value, index) => {
          if (index === 0) return build("th", { scope: "row" }, link ? link(value) : format(value));
          const isUnsure = value === "unsure";
          return build("td", { class: `${kind(header[index])}${isUnsure ? " muted" : ""}`, text: format(value, header[index]) });
        })),
      ))));
}
