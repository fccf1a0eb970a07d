/** Call the server. Every failure becomes an error with a sentence for the user. */

import { decodeShading } from "./shading.js";
import { buildSignal, decodeSignal } from "./signal.js";
import { LongSignal } from "./windows.js";

/** The server answered with an error. */
export class RefusedError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The server did not answer. */
export class UnreachableError extends Error {
  constructor(message = "The server does not answer. Is it still running?") {
    super(message);
  }
}

export const TOO_LARGE = 413;
const TIMEOUT = 60_000; // ms; a first explanation loads the networks

async function request(path, parameters = {}, options = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null && value !== "" && value !== false)
      query.set(name, value === true ? "1" : value);
  }
  const url = query.size ? `${path}?${query}` : path;
  const signals = [AbortSignal.timeout(TIMEOUT), options.signal].filter(Boolean);
  let response;
  try {
    response = await fetch(url, { ...options, signal: AbortSignal.any(signals) });
  } catch (error) {
    throw describeFailure(error);
  }
  if (!response.ok) throw new RefusedError(response.status, await describeRefusal(response));
  return response;
}

/** Return the error to report if no complete answer came; an abort by the page itself stays as it is. */
function describeFailure(error) {
  if (error.name === "AbortError") return error;
  if (error.name === "TimeoutError")
    return new UnreachableError(`The server did not answer within ${TIMEOUT / 1000} s. It may be busy: try again.`);
  return new UnreachableError();
}

async function describeRefusal(response) {
  try {
    const { error } = await response.json();
    if (typeof error === "string" && error) return error;
  } catch {
    // Not JSON: a proxy, or a server of something else.
  }
  return `The server answered with status ${response.status}.`;
}

async function readJson(response) {
  try {
    return await response.json();
  } catch (error) {
    throw describeFailure(error);
  }
}

async function readBytes(response) {
  try {
    return await response.arrayBuffer();
  } catch (error) {
    throw describeFailure(error);
  }
}

const getJson = async (path, parameters, options) => readJson(await request(path, parameters, options));

const post = (path, body) =>
  request(path, {}, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export const getSession = () => getJson("/api/session");
export const getRecordings = (query, options) => getJson("/api/recordings", query, options);
export const getRecording = (record, options) => getJson("/api/recording", { record }, options);
export const getAgreement = () => getJson("/api/agreement");
export const login = async (reviewer) => readJson(await post("/api/login", { reviewer }));
export const logout = () => post("/api/logout", {});
export const saveReview = async (review) => readJson(await post("/api/reviews", review));

/** Return the signal of a recording, raw or filtered; of a long one the envelope, with windows that load later. */
export async function getSignal(record, kind, options) {
  const load = async (parameters) => {
    const response = await request("/api/signal", { record, kind, ...parameters }, options);
    return decodeSignal(await readBytes(response), response.headers);
  };
  const signal = await load({});
  if (signal.block === 1) return { ...buildSignal(signal), kind };
  return Object.assign(new LongSignal(signal, (first, count, block) => load({ first, count, block })), { kind });
}

/** Return how much each lead and time contributes to a class. */
export async function getExplanation(record, className, method, options) {
  const response = await request("/api/explanation", { record, class: className, method }, options);
  return decodeShading(await readBytes(response), response.headers);
}
