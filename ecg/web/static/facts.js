/** What is known of a recording, from the server's answer. */

export const VERDICTS = ["present", "absent", "unsure"];

/** Return the classes whose value is true. */
const toSet = (values) => (values ? new Set(Object.keys(values).filter((name) => values[name])) : null);

/** Return the facts of a recording in one form: sets and maps by class, null for what is hidden or not yet known. */
export function readFacts(answer) {
  const diagnoses = answer.labels ?? null;
  return {
    record: answer.record,
    source: answer.source,
    age: answer.age,
    sex: answer.sex,
    seconds: answer.seconds ?? (answer.samples ? answer.samples / answer.sampling_frequency : null),
    frequency: answer.sampling_frequency,
    leads: answer.leads ?? [],
    diagnoses,
    labels: diagnoses && new Set(diagnoses.map((diagnosis) => diagnosis.abbreviation)),
    probabilities: answer.probabilities ?? null,
    calibrated: answer.calibrated ?? null,
    thresholds: answer.thresholds ?? null,
    predicted: toSet(answer.predicted),
    suspected: answer.suspected ?? [],
    toReview: answer.classes_to_review ?? null,
    reviews: new Map((answer.reviews ?? []).map((review) => [review.class, review])),
    otherReviews: answer.other_reviews ?? null,
    decision: answer.decision ?? null,
    unusable: answer.unusable ?? null,
    repairs: answer.repairs ?? [],
  };
}

/** Return the classes that should be answered first: those of the review list, else the suspected ones. */
export function classesToReview(facts) {
  return facts.toReview ?? facts.suspected.map((suspected) => suspected.class);
}
