/** Write numbers, times and facts of recordings in words. */

const COUNT = new Intl.NumberFormat("en");

/** Return a count with separators of thousands. */
export const formatCount = (count) => COUNT.format(count);

/** Return a count with its noun in singular or plural. */
export const pluralise = (count, noun, plural = `${noun}s`) => `${formatCount(count)} ${count === 1 ? noun : plural}`;

/** Return a probability with two digits, such that only 0 is 0.00 and only 1 is 1.00. */
export function formatProbability(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value > 0 && value < 0.01) return "<0.01";
  if (value < 1 && value > 0.99) return ">0.99";
  return value.toFixed(2);
}

/** Return a kappa or another value that may be negative or undefined. */
export function formatSigned(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const text = value.toFixed(2);
  return text === "-0.00" ? "0.00" : text.replace("-", "−");
}

/** Return a duration in s, or in minutes and seconds from two minutes on. */
export function formatSeconds(seconds) {
  if (!(seconds >= 0)) return "–";
  if (seconds < 120) return `${seconds < 10 || seconds % 1 ? seconds.toFixed(1) : seconds.toFixed(0)} s`;
  const rounded = Math.round(seconds);
  const hours = Math.floor(rounded / 3600);
  const minutes = String(Math.floor((rounded % 3600) / 60)).padStart(hours ? 2 : 1, "0");
  return `${hours ? `${hours}:` : ""}${minutes}:${String(rounded % 60).padStart(2, "0")} ${hours ? "h" : "min"}`;
}

/** Return a point of time in a recording, such as 0:02.350, or 12:00:02.350 from one hour on. */
export function formatTime(seconds, digits = 3) {
  const sign = seconds < 0 ? "−" : "";
  const value = Number(Math.abs(seconds).toFixed(digits));
  const minutes = Math.floor(value / 60);
  const rest = (value - minutes * 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  if (minutes < 60) return `${sign}${minutes}:${rest}`;
  return `${sign}${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

/** Return an age in years, or null if unknown. */
export function formatAge(age) {
  if (age === null || age === undefined || Number.isNaN(age)) return null;
  return age < 2 ? `${Math.round(age * 12)} months` : `${Math.floor(age)} y`;
}

/** Return sex and age in words. */
export function describeDemographics(sex, age) {
  const words = [["Female", "Male"].includes(sex) ? sex.toLowerCase() : "sex unknown", formatAge(age) ?? "age unknown"];
  return words.join(", ");
}

/** Return why a label is suspected, in words. */
export function describeSuspicion(suspected) {
  return suspected.labelled ? "label doubtful" : "label missing?";
}

/** Return why a label is suspected, with the model's probability, in a sentence. */
export function explainSuspicion(suspected) {
  const reason = capitalise(describeSuspicion(suspected));
  return `${reason}${reason.endsWith("?") ? "" : "."} The model gives ${formatProbability(suspected.probability)}.`;
}

/** Return the word of a verdict with a capital letter. */
export const capitalise = (word) => word.charAt(0).toUpperCase() + word.slice(1);

/** Return the time of day of an ISO time, in the browser's zone. */
export function formatClock(time) {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return time;
  const today = date.toDateString() === new Date().toDateString();
  const clock = date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  return today ? clock : `${date.toISOString().slice(0, 10)} ${clock}`;
}
