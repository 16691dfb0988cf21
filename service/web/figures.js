// What is told about an export: its name, and figures as label, text and hint.

import { now } from "./api.js";
import * as format from "./format.js";

const SOON = 5000; // ms within which a start counts as now

/** What people call the export: its source, or how its query begins. */
export const title = ({ source, query }) => source ?? query.trim().split("\n")[0];

export const hasExpired = ({ expiresAt }) => expiresAt !== null && Date.parse(expiresAt) <= now();

/** CSV · gzip · excel */
export const form = (item) =>
  [item.format.toUpperCase(), item.compression, item.profile]
    .filter((one) => one && one !== "none")
    .join(" · ");

export function figures(item) {
  const about = format.number(item.estimatedRows);
  const rows = ["Rows", `${format.number(item.rows)} of about ${about}`];
  const size = ["Size", format.size(item.bytes)];
  switch (item.status) {
    case "pending":
      return [
        ["Queue", queued(item)],
        ["Rows", `About ${about}`],
      ];
    case "processing":
      return [
        rows,
        size,
        ["Speed", item.rowsPerSecond ? `${format.number(item.rowsPerSecond)} rows/s` : "–"],
        ["Left", item.etaSeconds === null ? "–" : format.duration(item.etaSeconds)],
        ["Elapsed", took(item)],
      ];
    case "completed":
      return [["Rows", format.number(item.rows)], size, ["Took", took(item)], ...kept(item)];
    default:
      return [...(item.startedAt ? [rows, ["Ran", took(item)]] : []), attempts(item)];
  }
}

function queued({ runAt, place, waitsFor }) {
  if (waitsFor === "limit") return "As many run as may";
  if (Date.parse(runAt) - now() > SOON) return `Starts at ${format.instant(runAt)}`;
  if (place === 1) return "Next";
  return place ? `Place ${format.number(place)}` : "Waiting";
}

function took({ startedAt, finishedAt }) {
  const end = finishedAt ? Date.parse(finishedAt) : now();
  return format.duration((end - Date.parse(startedAt)) / 1000);
}

function kept(item) {
  if (!item.expiresAt) return [];
  const label = hasExpired(item) ? "Expired" : "Kept until";
  return [[label, format.instant(item.expiresAt), format.exactly(item.expiresAt)]];
}

function attempts({ attempt, maxAttempts }) {
  const most = format.number(Math.max(attempt, maxAttempts)); // a retry allows them all again
  return ["Attempts", `${format.number(attempt)} of ${most}`];
}

export function details(item) {
  return [
    ["Export", item.jobId],
    ["SELECT", item.select],
    ["SHA-256", item.sha256],
    ["As of", item.snapshotAt && format.exactly(item.snapshotAt)],
    ["Columns", item.resultColumns?.map(({ name, type }) => `${name} ${type}`).join(", ")],
    ["Time zone", item.timeZone],
    ["Priority", format.number(item.priority)],
  ].filter(([, text]) => text);
}

export function attemptCells({ attempt, worker, startedAt, endedAt, outcome, error }) {
  const seconds = (Date.parse(endedAt) - Date.parse(startedAt)) / 1000;
  return [
    format.number(attempt),
    worker,
    format.instant(startedAt),
    format.duration(seconds),
    outcome,
    error?.message ?? "",
  ];
}
