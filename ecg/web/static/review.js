/** The panel beside the paper: what label and model say of each class, and the reviewer's verdicts. */

import { describeDecision } from "./decision.js";
import { build, button, fill } from "./dom.js";
import { VERDICTS, classesToReview } from "./facts.js";
import { capitalise, describeSuspicion, formatClock, formatProbability } from "./format.js";

const VERDICT_KEYS = { present: "P", absent: "A", unsure: "U" };
const LONGEST_COMMENT = 1000;

/** The classes of a recording, one of them selected for the next verdict. */
export class ReviewPanel {
  /**
   * @param {object} session The server's answer to /api/session.
   * @param {Outbox} outbox Where verdicts go.
   * @param {object} handlers `onselect(class)`, `onanswer(isComplete)`, `onreveal()`, `onnext()`.
   */
  constructor(session, outbox, handlers) {
    this.session = session;
    this.outbox = outbox;
    this.handlers = handlers;
    this.facts = null;
    this.selected = null;
    this.isHidden = false;
    this.drafts = new Map(); // comments that are not saved yet, by record and class
    this.buildParts();
  }

  buildParts() {
    this.title = build("h2", { id: "class-title" });
    this.progress = build("span", { class: "progress" });
    this.fullName = build("p", { class: "full-name" });
    this.statement = build("p", { class: "statement" });
    this.verdictButtons = VERDICTS.map((verdict) =>
      button(capitalise(verdict), () => this.answer(verdict), {
        key: VERDICT_KEYS[verdict],
        data: { verdict },
        "aria-pressed": "false",
      }),
    );
    this.comment = build("input", {
      class: "comment",
      type: "text",
      maxlength: LONGEST_COMMENT,
      placeholder: "Comment (T)",
      "aria-label": "Comment",
      onkeydown: (event) => this.typeComment(event),
      onchange: () => this.saveComment(),
      oninput: () => this.drafts.set(this.draftKey, this.comment.value),
    });
    this.state = build("p", { class: "state", role: "status" });
    this.evidence = build("div", { class: "evidence" });
    this.list = build("ul", { class: "classes", role: "listbox", "aria-label": "Classes", tabindex: "0" });
    this.footer = build("footer", { class: "panel-footer" });
    this.answerBox = build(
      "section",
      { class: "answer", "aria-labelledby": "class-title" },
      build("div", { class: "answer-head" }, this.title, this.progress),
      this.fullName,
      this.statement,
      build("div", { class: "verdicts", role: "group", "aria-label": "Verdict" }, ...this.verdictButtons),
      this.comment,
      this.state,
      this.evidence,
    );
    const columns = ["Class", "", "Label", "Model", "You"];
    const head = build(
      "div",
      { class: "class-row head", "aria-hidden": "true" },
      columns.map((text) => build("span", { text })),
    );
    this.notes = build("div", { class: "notes" });
    this.element = build(
      "aside",
      { class: "panel", "aria-label": "Review" },
      this.answerBox,
      head,
      this.list,
      this.notes,
      this.footer,
    );
    const longest = Math.max(...this.session.classes.map((item) => item.abbreviation.length));
    this.element.style.setProperty("--class-width", `${longest}ch`);
  }

  /** Show another recording, or the same one with more known. */
  show(facts) {
    const isSame = this.facts?.record === facts.record;
    this.facts = facts;
    if (!isSame) {
      this.isHidden = this.session.blinded && facts.labels === null;
      this.selected = null;
      this.comment.value = "";
    }
    if (facts.labels === null) this.isHidden = true;
    this.order = this.orderClasses();
    this.selected ??= this.firstOpen() ?? this.order[0].classes[0] ?? this.order[1]?.classes[0] ?? null;
    if (!isSame) this.readComment();
    this.render();
    if (!isSame) this.list.scrollTop = 0;
    this.scrollToSelected();
  }

  clear() {
    this.facts = null;
    this.selected = null;
    this.element.classList.add("empty");
  }

  reveal() {
    if (!this.isHidden || this.facts?.labels === null) return;
    this.isHidden = false;
    this.order = this.orderClasses();
    this.render();
    this.scrollToSelected();
  }

  scrollToSelected() {
    this.list.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: "nearest" });
  }

  /** Return the classes in groups. Hidden facts must not show in the order. */
  orderClasses() {
    const { facts } = this;
    const all = this.session.classes.map((item) => item.abbreviation);
    const toReview = this.isHidden ? (facts.toReview ?? []) : classesToReview(facts);
    const first = toReview.filter((name) => all.includes(name));
    const rest = all.filter((name) => !first.includes(name));
    if (this.isHidden)
      return [
        { title: first.length ? "To review" : null, classes: first },
        { title: first.length ? "Other classes" : "Classes", classes: rest },
      ];
    const isNamed = (name) => facts.labels?.has(name) || facts.predicted?.has(name) || this.verdictOf(name);
    const probability = (name) => facts.probabilities?.[name] ?? -1;
    const sorted = [...rest].sort((a, b) => probability(b) - probability(a));
    return [
      { title: facts.toReview ? "To review" : "Suspected labels", classes: first },
      { title: "Labelled, predicted or answered", classes: sorted.filter(isNamed) },
      { title: "Other classes", classes: sorted.filter((name) => !isNamed(name)) },
    ].filter((group, index) => index === 0 || group.classes.length);
  }

  get classes() {
    return this.order.flatMap((group) => group.classes);
  }

  /** The reviewer's verdict on a class, saved or on its way. */
  verdictOf(name) {
    const waiting = this.outbox.find(this.facts.record, name);
    return waiting ? { ...waiting, isWaiting: true } : (this.facts.reviews.get(name) ?? null);
  }

  get toReview() {
    return this.order[0].classes;
  }

  /** The next class that is to be reviewed, after the selected one. */
  firstOpen() {
    const start = this.toReview.indexOf(this.selected) + 1;
    const inTurn = [...this.toReview.slice(start), ...this.toReview.slice(0, start)];
    return inTurn.find((name) => !this.verdictOf(name)) ?? null;
  }

  select(name) {
    if (!this.facts || !name) return;
    this.selected = name;
    this.readComment();
    this.render();
    this.scrollToSelected();
    this.handlers.onselect(name);
  }

  step(count) {
    const { classes } = this;
    const index = classes.indexOf(this.selected) + count;
    if (index >= 0 && index < classes.length) this.select(classes[index]);
  }

  /** Give a verdict on the selected class, and select the next one to review. */
  answer(verdict) {
    if (!this.facts || !this.selected) return;
    this.submit(verdict, this.comment.value.trim());
    const isListed = this.toReview.includes(this.selected);
    const next = isListed ? this.firstOpen() : null;
    if (next) this.select(next);
    this.handlers.onanswer(isListed && !next);
  }

  get draftKey() {
    return JSON.stringify([this.facts?.record, this.selected]);
  }

  submit(verdict, comment) {
    this.drafts.delete(this.draftKey);
    this.outbox.add({ record: this.facts.record, class: this.selected, verdict, comment });
    this.render();
  }

  readComment() {
    const saved = this.facts && this.selected ? this.verdictOf(this.selected)?.comment : "";
    this.comment.value = this.drafts.get(this.draftKey) ?? saved ?? "";
  }

  typeComment(event) {
    if (event.key === "Enter" || event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      this.comment.blur();
      this.list.focus({ preventScroll: true });
    }
  }

  /** Save a changed comment with the verdict that was given before. */
  saveComment() {
    const last = this.selected && this.verdictOf(this.selected);
    if (last && this.comment.value.trim() !== (last.comment ?? ""))
      this.submit(last.verdict, this.comment.value.trim());
    else this.render();
  }

  /** Take a review that the server has saved. */
  takeSaved(review) {
    if (this.facts?.record === review.record) this.facts.reviews.set(review.class, review);
    if (this.facts) this.render();
  }

  render() {
    this.element.classList.toggle("empty", !this.facts);
    if (!this.facts) return;
    this.renderAnswer();
    this.renderList();
    this.renderFooter();
  }

  renderAnswer() {
    const described = this.session.classes.find((item) => item.abbreviation === this.selected);
    const verdict = this.selected && this.verdictOf(this.selected);
    this.title.textContent = this.selected ?? "";
    this.fullName.textContent = described?.name ?? "";
    fill(this.statement, ...this.describeClass(this.selected));
    const position = this.toReview.indexOf(this.selected);
    this.progress.textContent = position >= 0 ? `${position + 1} of ${this.toReview.length} to review` : "";
    this.verdictButtons.forEach((item) =>
      item.setAttribute("aria-pressed", String(item.dataset.verdict === verdict?.verdict)),
    );
    this.renderState(verdict);
  }

  renderState(verdict) {
    this.state.className = "state";
    if (!verdict) this.state.textContent = this.comment.value.trim() ? "The comment is saved with your verdict." : "";
    else if (verdict.isWaiting) {
      this.state.textContent = this.outbox.problem ? "Not saved yet: the server does not answer." : "Saving …";
      this.state.classList.toggle("failed", Boolean(this.outbox.problem));
    } else this.state.textContent = `Saved ${formatClock(verdict.time)}`;
  }

  /** Return what label and model say of a class, in words. */
  describeClass(name) {
    if (this.isHidden) return ["Label and prediction are hidden until you have answered."];
    return describeDecision(this.facts, name);
  }

  renderList() {
    const items = [];
    for (const { title, classes } of this.order) {
      if (title && (classes.length || title === "Suspected labels")) {
        const note = classes.length ? "" : this.facts.probabilities ? "none" : "not known yet";
        items.push(
          build(
            "li",
            { class: "group", role: "presentation" },
            build("span", { text: title }),
            build("small", { text: note }),
          ),
        );
      }
      for (const name of classes) items.push(this.buildRow(name));
    }
    fill(this.list, ...items);
    this.list.setAttribute("aria-activedescendant", `class-${this.selected}`);
  }

  buildRow(name) {
    const { facts } = this;
    const described = this.session.classes.find((item) => item.abbreviation === name);
    const verdict = this.verdictOf(name);
    const suspected = this.isHidden ? null : facts.suspected.find((item) => item.class === name);
    const isLabelled = !this.isHidden && facts.labels?.has(name);
    const words = verdict ? capitalise(verdict.verdict) : "";
    return build(
      "li",
      {
        class: `class-row${suspected ? " suspected" : ""}`,
        role: "option",
        id: `class-${name}`,
        data: { class: name },
        "aria-selected": String(name === this.selected),
        onclick: () => this.select(name),
        title: `${name}: ${described.name}${suspected ? ` – ${describeSuspicion(suspected)}` : ""}`,
      },
      build("b", { text: name }),
      build("span", { class: "name", text: described.name }),
      build("span", { class: `mark${isLabelled ? " on" : ""}`, "aria-label": isLabelled ? "labelled" : "" }),
      this.isHidden ? build("span", { class: "model" }) : this.buildBar(name),
      build("span", { class: `verdict ${verdict?.verdict ?? ""}${verdict?.isWaiting ? " waiting" : ""}`, text: words }),
    );
  }

  buildBar(name) {
    const probability = this.facts.probabilities?.[name];
    const cell = build("span", { class: `model${this.facts.predicted?.has(name) ? " on" : ""}` });
    if (probability === undefined || probability === null) return cell;
    const value = build("i", { class: "value" });
    value.style.width = `${100 * probability}%`;
    const bar = build("span", { class: "bar-box" }, value);
    const threshold = this.facts.thresholds?.[name];
    if (threshold !== undefined && threshold !== null && threshold <= 1) {
      const tick = build("i", { class: "tick" });
      tick.style.left = `${100 * threshold}%`;
      bar.append(tick);
    }
    cell.append(bar, build("span", { class: "number", text: formatProbability(probability) }));
    return cell;
  }

  renderFooter() {
    const { facts } = this;
    const notes = facts.unusable ? [`The model cannot use this recording: ${facts.unusable}`] : [];
    if (!this.isHidden && facts.diagnoses) {
      const further = facts.diagnoses.filter((diagnosis) => !diagnosis.scored);
      if (further.length) notes.push(`Also labelled: ${further.map((item) => item.name || item.code).join(", ")}.`);
    }
    if (facts.repairs.length) notes.push(`Repaired for the model: ${facts.repairs.map(describeRepair).join("; ")}.`);
    if (!this.isHidden && facts.otherReviews) notes.push(`Verdicts of others: ${facts.otherReviews}.`);
    fill(this.notes, ...notes.map((text) => build("p", { text })));
    const done = this.toReview.filter((name) => this.verdictOf(name)).length;
    const hasVerdict =
      facts.reviews.size > 0 || this.session.classes.some((item) => this.outbox.find(facts.record, item.abbreviation));
    const progress = `${done} of ${this.toReview.length} answered`;
    const text = this.toReview.length ? progress : hasVerdict ? "Answered" : this.isHidden ? "Not answered" : "";
    const isDone = this.toReview.length > 0 && done === this.toReview.length;
    const reveal = button("Show labels", () => this.handlers.onreveal(), { key: "V" });
    const next = button("Next recording", () => this.handlers.onnext(), {
      key: "N",
      class: isDone || hasVerdict ? "primary" : "",
    });
    fill(
      this.footer,
      build("span", { text, class: isDone ? "done" : "" }),
      this.isHidden && hasVerdict && reveal,
      next,
    );
  }
}

function describeRepair(repair) {
  if (typeof repair === "string") return repair;
  const leads = repair.leads?.length ? ` (${repair.leads.join(", ")})` : "";
  return `${repair.kind}${leads}`;
}
