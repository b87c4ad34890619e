import { post } from "../../api/client";
import { ApiError, inWords, wasAborted } from "../../api/errors";
import { eventsIn, type ServerEvent } from "../../api/sse";
import type { ChatChunk } from "../../api/types";
import { count, several } from "../../format";
import { add, change, dropFrom, messages, turns } from "./conversation";
import { fields, settings } from "./settings";

let current: AbortController | null = null;

/** Says something and streams the answer into the conversation. */
export async function say(text: string): Promise<void> {
  add("user", text, settings.value.model);
  await answer();
}

/** Asks for the last answer once more. */
export async function again(id: number): Promise<void> {
  dropFrom(id);
  if (turns.value.length) await answer();
}

/** Leaves the answer as far as it is; the server stops computing it. */
export function stop(): void {
  current?.abort();
}

async function answer(): Promise<void> {
  const { model, system } = settings.value;
  const body = {
    ...(model ? { model } : {}),
    messages: messages(system),
    stream: true,
    stream_options: { include_usage: true },
    x_apportion: true,
    ...fields(settings.value),
  };
  const id = add("assistant", "", model);
  current = new AbortController();
  try {
    const response = await post("v1/chat/completions", body, current.signal);
    for await (const event of eventsIn(response)) take(id, event);
    change(id, { state: "done" });
  } catch (error) {
    if (wasAborted(error)) change(id, { state: "stopped" });
    else change(id, { state: "failed", error: inWords(error) });
  } finally {
    current = null;
  }
}

function take(id: number, { event, data }: ServerEvent): void {
  if (event === "comment") return change(id, { progress: progressOf(data) });
  if (data === "[DONE]") return;
  const chunk = JSON.parse(data) as ChatChunk;
  if (chunk.error) throw new ApiError(chunk.error.message ?? "the answer broke off", 200, chunk.error.code ?? null);
  const choice = chunk.choices[0];
  if (choice) takeChoice(id, choice);
  const { usage, x_apportion: ours } = chunk;
  if (usage) change(id, { promptTokens: usage.prompt_tokens, outputTokens: usage.completion_tokens });
  if (ours) change(id, { timings: ours.timings ?? null, warnings: ours.warnings ?? [] });
}

/** Of a comment such as "prefill 512/2048"; other comments only say that the server is alive. */
function progressOf(comment: string): string {
  const [, done, total] = /^prefill (\d+)\/(\d+)$/.exec(comment) ?? [];
  return done && total ? `${count(Number(done))} of ${several(Number(total), "token")}` : "";
}

function takeChoice(id: number, { delta, finish_reason }: ChatChunk["choices"][number]): void {
  const { content, reasoning_content } = delta;
  if (content || reasoning_content) {
    change(id, (turn) => ({
      state: "streaming",
      progress: "",
      text: turn.text + (content ?? ""),
      reasoning: turn.reasoning + (reasoning_content ?? ""),
    }));
  }
  if (finish_reason) change(id, { finish: finish_reason });
}
