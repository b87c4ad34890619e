/** Numbers for people. What is not known is an en dash, never a zero. */

export const UNKNOWN = "–";

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** Three digits, as everywhere in apportion: 1234 → "1,234", 12.34 → "12.3", 0.01234 → "0.0123". */
export function threeDigits(value: number): string {
  if (value === 0) return "0";
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toLocaleString("en", { minimumFractionDigits: Math.min(digits, 4), maximumFractionDigits: Math.min(digits, 4) });
}

/** Without zeros behind the point, for round places on a scale: "1.50 GiB" → "1.5 GiB", "2.00 s" → "2 s". */
export function trimmed(text: string): string {
  return text.replace(/(\.\d*?)0+(?!\d)/, "$1").replace(/\.(?!\d)/, "");
}

/** `[number, unit]` of bytes in powers of 1024. */
export function byteParts(nbytes: number): [string, string] {
  let unit = 0;
  let value = nbytes;
  while (Math.abs(value) >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return [unit ? threeDigits(value) : String(Math.round(value)), UNITS[unit]!];
}

export function bytes(nbytes: number | null | undefined): string {
  return nbytes == null ? UNKNOWN : byteParts(nbytes).join(" ");
}

/** Seconds with a unit that suits: "85 ms", "2.41 s", "3 min 20 s", "2 h 5 min". */
export function duration(seconds: number | null | undefined): string {
  if (seconds == null) return UNKNOWN;
  if (seconds < 0.9995) return `${threeDigits(seconds * 1000)} ms`;
  if (seconds < 99.95) return `${threeDigits(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** An age: whole seconds are exact enough. */
export function age(seconds: number): string {
  return seconds < 100 ? `${Math.floor(seconds)} s` : duration(seconds);
}

export function rate(value: number | null | undefined, unit = "tok/s"): string {
  return value == null ? UNKNOWN : `${threeDigits(value)} ${unit}`;
}

export function count(value: number | null | undefined): string {
  return value == null ? UNKNOWN : Math.round(value).toLocaleString("en");
}

export function percent(share: number | null | undefined, digits = 0): string {
  return share == null || !Number.isFinite(share) ? UNKNOWN : `${(share * 100).toFixed(digits)}%`;
}

/** "1 layer", "3 layers". */
export function several(number: number, one: string, many = `${one}s`): string {
  return `${count(number)} ${number === 1 ? one : many}`;
}

const SIZE = /^\s*([0-9]*\.?[0-9]+)\s*([kmgt]?)(i?)b?\s*$/i;

/** Bytes of "4GiB", "4 GB", "512MiB" or "4.5g" (powers of 1024 unless it says GB); null: it is no size. */
export function parseBytes(text: string): number | null {
  const match = SIZE.exec(text);
  if (!match) return null;
  const power = " kmgt".indexOf((match[2] ?? "").toLowerCase() || " ");
  const decimal = !match[3] && /b\s*$/i.test(text) && power > 0;
  return Math.round(Number(match[1]) * (decimal ? 1000 : 1024) ** power);
}
