import { transform } from "./fourier.mjs";

/** Return a lead in mV at `frequency` Hz, an integer, as the model takes it: resampled and filtered as in training. */
export function preprocess(lead, frequency, model) {
  if (!Number.isInteger(frequency)) throw new RangeError(`${frequency} Hz, expected an integer`);
  const { preprocessing: { rate }, filter_taps: taps, resolution, largest } = model;
  const greatestDivisor = (a, b) => (b ? greatestDivisor(b, a % b) : a);
  const [down, up] = [frequency, rate].map((value) => value / greatestDivisor(frequency, rate));
  const last = lead.length - 1, reach = (taps.length - 1) / 2, leadIn = Math.ceil(reach / up);
  const isFast = (n) => n === 1 || [2, 3, 5].some((factor) => n % factor === 0 && isFast(n / factor));
  let steps = 2 * leadIn + Math.ceil(lead.length / down);
  while (!isFast(steps)) steps++;
  const mean = lead.reduce((sum, value) => sum + value) / lead.length;
  // Beyond its ends the lead goes on, reflected about its first and last value.
  const reflect = (i) =>
    i < 0 ? 2 * lead[0] - reflect(-i) : i > last ? 2 * lead[last] - reflect(2 * last - i) : lead[i];
  const [before, after] = [steps * down, steps * up];
  const spectrum = transform(Array.from({ length: before }, (_, i) => [reflect(i - leadIn * down) - mean, 0]), -1);
  const response = transform(Array.from({ length: after }, (_, i) => [taps[(i + reach) % after] ?? 0, 0]), -1);
  const product = response.map(([gain], k) => {
    const weight = 2 * k > Math.min(before, after) ? 0 : k === 0 || 2 * k === after ? 1 : 2;
    return weight ? spectrum[k].map((value) => (value * weight * gain) / before) : [0, 0];
  });
  const filtered = transform(product, 1).slice(leadIn * up, leadIn * up + Math.ceil((lead.length * up) / down));
  return filtered.map(([value]) => Math.max(-largest, Math.min(largest, Math.round(value / resolution) * resolution)));
}
