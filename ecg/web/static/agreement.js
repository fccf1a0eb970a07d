/** The view of agreement between reviewers, labels and model. */

import { getAgreement } from "./api.js";
import { build, button, fill } from "./dom.js";

/** Shows pairwise kappa. */
export class AgreementView {
  constructor(page) {
    this.page = page;
    this.element = build("div", { class: "agreement" });
  }

  get keys() {
    return [];
  }

  async open() {
    fill(this.element, build("p", { text: "Loading …" }));
    try {
      const answer = await getAgreement();
      fill(this.element, build("pre", { text: JSON.stringify(answer) }));
    } catch (error) {
      fill(this.element, build("p", { text: error.message }), button("Try again", () => this.open()));
    }
  }
}
