import { expect, test } from "vitest";
import type { Status } from "../api/types";
import { History } from "./history";

function status(uptime_s: number, experts: number): Status {
  const ram = { limit_bytes: 10, leased_bytes: 5, rss_bytes: uptime_s, peak_rss_bytes: 9, kinds: {} };
  const rates = { decode_tok_s: null, prefill_tok_s: 1, disk_read_bytes_s: 2, ttft_p50_s: 3, ttft_p99_s: 4, tpot_p50_s: 5, tpot_p99_s: 6 };
  return { uptime_s, rates, budget: { ram, disk: { limit_bytes: 0, used_bytes: 0 } }, stalls: { experts } } as unknown as Status;
}

test("samples are kept by series, and what is unknown is a gap", () => {
  const history = new History();
  for (const second of [1, 2, 3]) history.add(status(second, 0));
  expect(history.times).toEqual([1, 2, 3]);
  expect(history.column("rss")).toEqual([1, 2, 3]);
  expect(history.column("decode")).toEqual([null, null, null]);
});

test("stalls are counted within a span only", () => {
  const history = new History();
  for (const second of [0, 50, 100]) history.add(status(second, second / 10));
  expect(history.stalledWithin(60)).toEqual({ experts: 5 });
  expect(history.stalledWithin(1000)).toEqual({ experts: 10 });
});

test("a server that was started anew begins a new history", () => {
  const history = new History();
  history.add(status(500, 0));
  history.add(status(1, 0));
  expect(history.times).toEqual([1]);
});

test("no more than half an hour is kept", () => {
  const history = new History();
  for (let second = 0; second < 2000; second++) history.add(status(second, 0));
  expect(history.times.length).toBe(1800);
  expect(history.column("rss").length).toBe(1800);
});
