import { effect, signal } from "@preact/signals";
import { call } from "../api/client";
import { ApiError } from "../api/errors";
import { eventsIn } from "../api/sse";
import type { Status } from "../api/types";
import { History } from "./history";
import { key, locked } from "./key";

const SILENCE_MS = 15_000; // the server speaks every second
const LONGEST_PAUSE_MS = 10_000;

export type Connection = "connecting" | "live" | "lost" | "locked";

export const connection = signal<Connection>("connecting");
export const status = signal<Status | null>(null);
export const history = new History();

/** Changes with each sample; what shows the history depends on it. */
export const samples = signal(0);

/** Why the connection was lost, in words. */
export const lostBecause = signal("");

export function take(next: Status): void {
  history.add(next);
  status.value = next;
  samples.value += 1;
  connection.value = "live";
}

async function watch(): Promise<void> {
  const giveUp = new AbortController();
  let silence = setTimeout(() => giveUp.abort(), SILENCE_MS);
  try {
    const response = await call("v1/apportion/events", { signal: giveUp.signal });
    for await (const event of eventsIn(response)) {
      clearTimeout(silence);
      silence = setTimeout(() => giveUp.abort(), SILENCE_MS);
      if (event.event !== "comment") take(JSON.parse(event.data) as Status);
    }
  } finally {
    clearTimeout(silence);
  }
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resume) => {
    setTimeout(resume, milliseconds);
    addEventListener("online", () => resume(), { once: true });
  });
}

/** Resolves when a key is offered. */
function unlocked(): Promise<void> {
  return new Promise((resume) => {
    const stop = effect(() => {
      if (!locked.value && key.value) queueMicrotask(() => (stop(), resume()));
    });
  });
}

/** Follows the server for as long as the page is open. */
export async function follow(): Promise<never> {
  for (let failures = 0; ; failures++) {
    const before = samples.value;
    try {
      await watch();
      lostBecause.value = "the server ended the connection";
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) {
        connection.value = "locked";
        await unlocked();
        connection.value = "connecting";
        continue;
      }
      lostBecause.value = error instanceof ApiError ? error.message : "the server fell silent";
    }
    if (samples.value > before) failures = 0;
    connection.value = "lost";
    await pause(Math.min(LONGEST_PAUSE_MS, 1000 * 2 ** failures));
  }
}
