import { expect, test } from "vitest";
import { EventCutter } from "./sse";

const STREAM = ': prefill 1/2\n\ndata: {"a":1}\n\nevent: error\r\ndata: one\r\ndata: two\r\n\r\ndata: [DONE]\n\n';
const EVENTS = [
  { event: "comment", data: "prefill 1/2" },
  { event: "message", data: '{"a":1}' },
  { event: "error", data: "one\ntwo" },
  { event: "message", data: "[DONE]" },
];

test("a stream is the same events wherever it is cut", () => {
  for (let first = 0; first <= STREAM.length; first++) {
    const cutter = new EventCutter();
    expect([...cutter.feed(STREAM.slice(0, first)), ...cutter.feed(STREAM.slice(first))]).toEqual(EVENTS);
  }
});

test("an event that is not complete is waited for", () => {
  expect(new EventCutter().feed("data: half")).toEqual([]);
});
