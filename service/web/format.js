// Numbers, sizes, durations and instants, as the reader's locale writes them.

const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
const SHORT_TYPES = {
  "timestamp with time zone": "timestamptz",
  "timestamp without time zone": "timestamp",
  "character varying": "varchar",
  "double precision": "float8",
};

const count = new Intl.NumberFormat();
const share = new Intl.NumberFormat(undefined, { style: "percent" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const units = new Map();

function inUnit(value, unit, digits, display) {
  const key = unit + digits;
  if (!units.has(key)) {
    const options = { style: "unit", unit, unitDisplay: display };
    units.set(
      key,
      new Intl.NumberFormat(undefined, {
        ...options,
        minimumFractionDigits: digits,
        maximumFractionDigits: digits,
      }),
    );
  }
  return units.get(key).format(value);
}

export const number = (value) => count.format(value);

export const percent = (value) => share.format(value / 100);

export const rows = (value) => `${number(value)} ${value === 1 ? "row" : "rows"}`;

/** 25.1 MB; in powers of a thousand, as disks and networks count. */
export function size(bytes) {
  let power = 0;
  while (bytes >= 1000 && power < UNITS.length - 1) {
    bytes /= 1000;
    power += 1;
  }
  return inUnit(bytes, UNITS[power], power ? 1 : 0, "short");
}

/** 0.4s, 12s, 3m 5s, 2h 10m */
export function duration(seconds) {
  if (seconds < 10) return inUnit(Math.max(0, seconds), "second", 1, "narrow");
  const whole = Math.round(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  const larger = hours ? [hours, "hour"] : [minutes, "minute"];
  const smaller = hours ? [minutes, "minute"] : [whole % 60, "second"];
  return [larger, smaller]
    .filter(([value], index) => value || index)
    .map(([value, unit]) => inUnit(value, unit, 0, "narrow"))
    .join(" ");
}

/** The time alone for what is today, else the date too. */
export function instant(iso) {
  const at = new Date(iso);
  return (at.toDateString() === new Date().toDateString() ? clock : day).format(at);
}

export const exactly = (iso) => exact.format(new Date(iso));

/** A column's type, short enough for a label. */
export function type(name) {
  const [, long] = /^([a-z ]+)/.exec(name) ?? [];
  const short = SHORT_TYPES[long?.trim()];
  return short ? name.replace(long.trim(), short) : name;
}
