import * as ort from "onnxruntime-web";
import { preprocess } from "./preprocess.mjs";

/** Return name, probability and decision of each class.
 *  `session` is of an ONNX file and `model` its description; `leads` are by name, in mV at `frequency` Hz. */
export async function predict(session, model, leads, frequency) {
  const signals = model.leads.map((name) => preprocess(leads[name], frequency, model));
  const values = signals[0].flatMap((_, sample) => signals.map((signal) => signal[sample]));
  const signal = new ort.Tensor("float32", Float32Array.from(values), [1, signals[0].length, signals.length]);
  const { probabilities } = await session.run({ signal });
  return model.classes.map(({ abbreviation, codes, name }, index) => {
    const probability = probabilities.data[index];
    return { abbreviation, name, probability, predicted: probability >= model.rule.thresholds[codes.join("|")] };
  });
}
