// The limits of who is signed in, and what of them is used.

import { make } from "./dom.js";
import * as format from "./format.js";

const { number, size, duration } = format;
const most = (limit, write) => limit !== null && `up to ${write(limit)}`;
const perMinute = (limit) => limit !== null && `${number(limit)} a minute`;
const used = (usage, limit, write) =>
  limit === null ? write(usage) : `${write(usage)} of ${write(limit)}`;

/** The rows of a list: what, and how much. */
export function allowance({ limits, usage }) {
  const { maxBytesADay } = limits;
  return [
    ["Running", used(usage.running, limits.maxRunning, number)],
    ["Waiting", used(usage.pending, limits.maxPending, number)],
    ["Files today", maxBytesADay !== null && used(usage.bytesToday, maxBytesADay, size)],
    ["Rows of a file", most(limits.maxRows, number)],
    ["Size of a file", most(limits.maxBytes, size)],
    ["Time of an export", most(limits.maxSeconds, duration)],
    ["Priority", most(limits.maxPriority, number)],
    ["Previews", perMinute(limits.maxPreviewsAMinute)],
    ["Requests", perMinute(limits.maxRequestsAMinute)],
  ]
    .filter(([, text]) => text)
    .flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]);
}
