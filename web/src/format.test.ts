import { describe, expect, test } from "vitest";
import { age, bytes, duration, parseBytes, percent, rate, several, threeDigits, trimmed } from "./format";

const MiB = 2 ** 20;

test.each([
  [0, "0"],
  [0.01234, "0.0123"],
  [1.5, "1.50"],
  [12.34, "12.3"],
  [999.6, "1,000"],
  [1234, "1,234"],
])("%d has three digits: %s", (value, words) => expect(threeDigits(value)).toBe(words));

test("bytes are in powers of 1024 and what is unknown is no zero", () => {
  expect(bytes(512)).toBe("512 B");
  expect(bytes(1.5 * 1024 * MiB)).toBe("1.50 GiB");
  expect(bytes(null)).toBe("–");
});

test("durations take the unit that suits", () => {
  expect([0.0853, 2.412, 200, 7500].map(duration)).toEqual(["85.3 ms", "2.41 s", "3 min 20 s", "2 h 5 min"]);
  expect(age(12.9)).toBe("12 s");
});

test("scales lose zeros behind the point, and nothing else", () => {
  expect(["1.50 GiB", "2.00 s", "100 MiB", "10", "0.05"].map(trimmed)).toEqual(["1.5 GiB", "2 s", "100 MiB", "10", "0.05"]);
});

test("rates, shares and numbers of things", () => {
  expect(rate(3.1)).toBe("3.10 tok/s");
  expect(percent(0.305, 1)).toBe("30.5%");
  expect(percent(0 / 0)).toBe("–");
  expect([several(1, "layer"), several(2000, "layer")]).toEqual(["1 layer", "2,000 layers"]);
});

describe("sizes that are typed", () => {
  test.each([
    ["4GiB", 4096 * MiB],
    [" 1.5 g ", 1536 * MiB],
    ["512MB", 512_000_000],
    ["700", 700],
    [".5G", 512 * MiB],
  ])("%s is read", (text, nbytes) => expect(parseBytes(text)).toBe(nbytes));

  test.each(["", "much", "-1G", "4GiBs", "1e9"])("%s is none", (text) => expect(parseBytes(text)).toBeNull());
});
