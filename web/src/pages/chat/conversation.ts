import { computed, signal } from "@preact/signals";
import type { Timings } from "../../api/types";

export interface Turn {
  id: number;
  role: "user" | "assistant";
  text: string;
  reasoning: string;
  model: string;
  /** What an answer is doing; `done` for what a person wrote. */
  state: "waiting" | "streaming" | "done" | "stopped" | "failed";
  /** Progress of a long prompt, from the server's comments. */
  progress: string;
  error: string;
  warnings: string[];
  finish: string | null;
  timings: Timings | null;
  promptTokens: number | null;
  outputTokens: number | null;
}

/** Kept in memory alone: it is gone with the page. */
export const turns = signal<readonly Turn[]>([]);

export const busy = computed(() => turns.value.some((turn) => turn.state === "waiting" || turn.state === "streaming"));

let lastId = 0;

export function add(role: Turn["role"], text: string, model: string): number {
  lastId += 1;
  const state = role === "user" ? "done" : "waiting";
  const blank = { progress: "", error: "", warnings: [], finish: null, timings: null, promptTokens: null, outputTokens: null };
  turns.value = [...turns.value, { id: lastId, role, text, reasoning: "", model, state, ...blank }];
  return lastId;
}

export function change(id: number, changes: Partial<Turn> | ((turn: Turn) => Partial<Turn>)): void {
  turns.value = turns.value.map((turn) =>
    turn.id === id ? { ...turn, ...(typeof changes === "function" ? changes(turn) : changes) } : turn,
  );
}

/** Drops a turn and what came after it. */
export function dropFrom(id: number): void {
  turns.value = turns.value.slice(0, turns.value.findIndex((turn) => turn.id === id));
}

export interface Message {
  role: string;
  content: string;
}

/** What the model reads. What got no answer is left out: templates want the roles in turn. */
export function messages(system: string): Message[] {
  const said = turns.value.filter((turn, index, all) => turn.text && !isUnanswered(all, index));
  const own = said.map(({ role, text }) => ({ role, content: text }));
  return system.trim() ? [{ role: "system", content: system.trim() }, ...own] : own;
}

function isUnanswered(all: readonly Turn[], index: number): boolean {
  const [turn, next] = [all[index]!, all[index + 1]];
  const failed = (one: Turn) => one.state === "failed" || (one.state === "stopped" && !one.text);
  return turn.role === "user" ? next !== undefined && failed(next) : failed(turn);
}

/** The conversation as a file that other programs read. */
export function exported(system: string): string {
  const answers = turns.value.map(({ id: _id, progress: _progress, ...turn }) => turn);
  return JSON.stringify({ messages: messages(system), turns: answers }, null, 2);
}
