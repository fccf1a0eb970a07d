/** The list of recordings: search, filters, order and pages. */

import { getRecordings } from "./api.js";
import { build, button, fill, select } from "./dom.js";
import {
  describeSuspicion,
  explainSuspicion,
  formatAge,
  formatCount,
  formatProbability,
  formatSeconds,
  pluralise,
} from "./format.js";
import { Queue } from "./queue.js";

const PAGE = 50;
const PAUSE = 200; // ms after the last key before the search begins
const COLUMNS = [
  ["name", "Recording"],
  ["source", "Source"],
  ["age", "Age"],
  ["sex", "Sex"],
  ["seconds", "Length"],
  [null, "Labels"],
  [null, "Predicted"],
  ["suspicion", "Suspected"],
  [null, "Reviewed"],
];
const FILTERS = ["search", "label", "predicted", "source", "suspected", "unreviewed", "sort", "descending", "offset"];

/** Read the query of the list from the address. */
export function readQuery(text, session) {
  const values = new URLSearchParams(text);
  const query = Object.fromEntries(FILTERS.filter((name) => values.get(name)).map((name) => [name, values.get(name)]));
  query.offset = Number(query.offset) || 0;
  const isNeutral = session.blinded || session.listed !== null; // the order must not tell what the model says
  if (!query.sort && !isNeutral) Object.assign(query, { sort: "suspicion", descending: "1" });
  return query;
}

/** Shows a page of the list. */
export class ListView {
  /** @param {object} page `session`, `openRecording(record)`, `openList(query)`. */
  constructor(page) {
    this.page = page;
    this.query = {};
    this.answer = { total: 0, items: [] };
    this.active = 0;
    this.predictable = new Set(page.session.classes.filter((item) => item.predicted).map((item) => item.abbreviation));
    this.filters = build("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() });
    this.body = build("tbody", {});
    this.head = build("thead", {});
    this.table = build(
      "table",
      { class: "recordings", role: "grid", "aria-label": "Recordings" },
      this.head,
      this.body,
    );
    this.message = build("div", { class: "list-message" });
    this.update = button("Update with new predictions", () => this.open(this.query), { hidden: true });
    this.pages = build("nav", { class: "pages", "aria-label": "Pages" });
    this.box = build("div", { class: "table-box" }, this.table, this.message);
    this.element = build("div", { class: "list" }, this.filters, this.box, this.pages);
  }

  get keys() {
    return [
      { group: "List", keys: ["ArrowDown"], text: "Recording below", run: () => this.step(1) },
      { group: "List", keys: ["ArrowUp"], text: "Recording above", run: () => this.step(-1) },
      { group: "List", keys: ["Enter"], text: "Open the recording", run: () => this.openActive() },
      { group: "List", keys: ["PageDown", "N"], text: "Next page", run: () => this.turn(1) },
      { group: "List", keys: ["PageUp", "B"], text: "Page before", run: () => this.turn(-1) },
      { group: "List", keys: ["/"], text: "Search", run: () => this.search.focus() },
      {
        group: "List",
        keys: ["U"],
        text: "Only recordings not reviewed by me",
        run: () => this.change({ unreviewed: !this.query.unreviewed }),
      },
    ];
  }

  /** Show the recordings of a query. */
  async open(query) {
    this.query = query;
    if (!this.search) this.fillFilters();
    this.showQuery();
    this.fillHead();
    this.controller?.abort();
    this.controller = new AbortController();
    this.element.classList.add("loading");
    try {
      const answer = await getRecordings({ ...query, limit: PAGE }, { signal: this.controller.signal });
      this.show(answer);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.show({ total: 0, items: [] });
      fill(
        this.message,
        build("p", { text: error.message }),
        button("Try again", () => this.open(query)),
      );
    }
  }

  /** Load the same page again, for predictions that have come in, but never below somebody's hand. */
  refresh() {
    const isInUse =
      this.element.contains(document.activeElement) || this.box.scrollTop > 0 || this.table.matches(":hover");
    if (isInUse) this.update.hidden = false;
    else this.open(this.query);
  }

  show(answer) {
    this.element.classList.remove("loading");
    this.update.hidden = true;
    this.answer = answer;
    const last = this.page.lastRecord;
    this.active = Math.max(
      0,
      answer.items.findIndex((item) => item.record === last),
    );
    fill(
      this.body,
      answer.items.map((item, index) => this.buildRow(item, index)),
    );
    fill(this.message, !answer.items.length && build("p", { text: "No recording fits these filters." }));
    this.fillPages();
    if (last) this.body.children[this.active]?.scrollIntoView({ block: "nearest" });
  }

  fillFilters() {
    const { session } = this.page;
    const classes = session.classes.map((item) => [item.abbreviation, `${item.abbreviation} – ${item.name}`]);
    this.search = build("input", {
      type: "search",
      placeholder: "Search name or source ( / )",
      "aria-label": "Search",
      maxlength: 200,
      onkeydown: (event) => {
        if (event.key === "Escape" || event.key === "Enter" || event.key === "ArrowDown") {
          event.preventDefault();
          event.stopPropagation();
          this.search.blur();
          this.change({ search: this.search.value });
        }
      },
      oninput: () => {
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.change({ search: this.search.value }), PAUSE);
      },
    });
    const check = (name, text) =>
      build(
        "label",
        { class: "check" },
        build("input", { type: "checkbox", name, onchange: (event) => this.change({ [name]: event.target.checked }) }),
        build("span", { text }),
      );
    const pick = (label, name, options) =>
      select(label, [["", `${label}: any`], ...options], "", (value) => this.change({ [name]: value }), { name });
    fill(
      this.filters,
      this.search,
      !session.blinded && pick("Label", "label", classes),
      !session.blinded && pick("Predicted", "predicted", classes),
      pick(
        "Source",
        "source",
        session.sources.map((source) => [source, source]),
      ),
      !session.blinded && check("suspected", "Label suspected wrong"),
      check("unreviewed", "Not reviewed by me"),
      button("Clear", () => this.page.openList({}), { class: "quiet" }),
    );
  }

  /** Show the query in the filters, except in the one that is being changed. */
  showQuery() {
    const { query } = this;
    if (document.activeElement !== this.search) this.search.value = query.search ?? "";
    for (const element of this.filters.querySelectorAll("[name]")) {
      if (element.type === "checkbox") element.checked = Boolean(query[element.name]);
      else element.value = query[element.name] ?? "";
    }
  }

  fillHead() {
    const { sort, descending } = this.query;
    const cells = COLUMNS.map(([name, text]) => {
      const isHidden = this.page.session.blinded && name === "suspicion";
      if (!name || isHidden) return build("th", { scope: "col", text });
      const isSorted = sort === name;
      const order = isSorted ? (descending ? "descending" : "ascending") : "none";
      const sign = isSorted ? (descending ? " ▼" : " ▲") : "";
      const next = isSorted ? !descending : name === "suspicion";
      return build(
        "th",
        { scope: "col", "aria-sort": order },
        build("button", {
          type: "button",
          text: `${text}${sign}`,
          onclick: () => this.change({ sort: name, descending: next }),
        }),
      );
    });
    fill(this.head, build("tr", {}, cells));
  }

  buildRow(item, index) {
    const labels = item.labels ?? [];
    const predicted = item.predicted ?? [];
    const facts = [
      item.source,
      formatAge(item.age) ?? "–",
      { Female: "female", Male: "male" }[item.sex] ?? "–",
      item.seconds === null ? "–" : formatSeconds(item.seconds),
    ];
    const classes = ["text", "number", "text", "number"];
    return build(
      "tr",
      {
        tabindex: index === this.active ? "0" : "-1",
        "aria-selected": String(index === this.active),
        data: { record: item.record },
        onclick: () => this.page.openRecording(item.record),
        onfocus: () => this.activate(index),
      },
      build(
        "th",
        { scope: "row", title: item.record },
        build("a", {
          href: this.page.addressOf(item.record),
          tabindex: "-1",
          text: item.record,
          onclick: (event) => event.preventDefault(),
        }),
      ),
      facts.map((text, column) => build("td", { class: classes[column], text })),
      build(
        "td",
        { class: "classes" },
        item.labels === null
          ? hidden()
          : labels.map((name) =>
              buildTag(
                name,
                !item.predicted || !this.predictable.has(name) || predicted.includes(name),
                "labelled, not predicted",
              ),
            ),
      ),
      build("td", { class: "classes" }, this.describePredicted(item, labels, predicted)),
      build(
        "td",
        { class: "suspected" },
        (item.suspected ?? []).slice(0, 3).map(buildSuspicion),
        (item.suspected?.length ?? 0) > 3 && build("small", { text: ` +${item.suspected.length - 3}` }),
      ),
      build("td", { class: "reviewed", text: item.reviewed_by_me ? pluralise(item.reviewed_by_me, "verdict") : "" }),
    );
  }

  describePredicted(item, labels, predicted) {
    if (item.labels === null) return hidden();
    if (item.failed) return build("span", { class: "muted", text: "cannot be predicted" });
    if (item.predicted === null) return build("span", { class: "muted", text: "not yet" });
    if (!predicted.length) return build("span", { class: "muted", text: "none" });
    return predicted.map((name) => buildTag(name, labels.includes(name), "predicted, not labelled"));
  }

  fillPages() {
    const { total, items } = this.answer;
    const { offset } = this.query;
    const end = offset + items.length;
    const text = total
      ? `${formatCount(offset + 1)}–${formatCount(end)} of ${pluralise(total, "recording")}`
      : "0 recordings";
    fill(
      this.pages,
      build("span", { text, "aria-live": "polite" }),
      this.update,
      build("span", { class: "space" }),
      button("Previous page", () => this.turn(-1), { key: "B", disabled: offset <= 0 }),
      button("Next page", () => this.turn(1), { key: "N", disabled: end >= total }),
    );
  }

  /** Change filters or order; the list begins anew. */
  change(changes) {
    clearTimeout(this.timer);
    const query = { ...this.query, offset: 0, ...changes };
    if (JSON.stringify(query) !== JSON.stringify(this.query)) this.page.openList(query);
  }

  turn(step) {
    const offset = this.query.offset + step * PAGE;
    if (offset >= this.answer.total || offset < 0 || (step < 0 && this.query.offset <= 0)) return;
    this.page.lastRecord = null;
    this.page.openList({ ...this.query, offset });
  }

  activate(index) {
    this.body.children[this.active]?.setAttribute("aria-selected", "false");
    this.body.children[this.active]?.setAttribute("tabindex", "-1");
    this.active = index;
    this.body.children[index]?.setAttribute("aria-selected", "true");
    this.body.children[index]?.setAttribute("tabindex", "0");
  }

  step(count) {
    const index = Math.min(Math.max(this.active + count, 0), this.answer.items.length - 1);
    if (index < 0) return;
    const isFirst = !this.body.contains(document.activeElement) && !this.page.lastRecord;
    this.activate(isFirst ? this.active : index);
    this.body.children[this.active].focus();
  }

  openActive() {
    const item = this.answer.items[this.active];
    if (item) this.page.openRecording(item.record);
  }

  /** The order in which the recordings of this list are gone through. */
  makeQueue() {
    const { offset, ...query } = this.query;
    const queue = new Queue(query, offset);
    queue.take(this.answer);
    return queue;
  }
}

const hidden = () => build("span", { class: "muted", text: "hidden" });

/** Build the name of a class, emphasised if labels and model differ in it. */
const buildTag = (name, isAgreed, difference) =>
  build("span", { class: isAgreed ? "tag" : "tag only", title: isAgreed ? null : difference, text: name });

function buildSuspicion(suspected) {
  return build(
    "span",
    {
      class: "suspicion",
      title: explainSuspicion(suspected),
    },
    build("b", { text: suspected.class }),
    ` ${describeSuspicion(suspected)} `,
    build("span", { class: "number", text: formatProbability(suspected.probability) }),
  );
}
