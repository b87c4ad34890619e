import { count, duration, rate, several } from "../../format";
import { again } from "./asking";
import type { Turn } from "./conversation";
import { CopyButton } from "./copy-button";
import { Markdown } from "./markdown";

export function TurnView({ turn, isLast }: { turn: Turn; isLast: boolean }) {
  return (
    <li class={`turn is-${turn.role}`}>
      <h2 class="turn-who">{turn.role === "user" ? "You" : turn.model || "Assistant"}</h2>
      {turn.role === "user" ? <p class="turn-said">{turn.text}</p> : <Answer turn={turn} isLast={isLast} />}
    </li>
  );
}

function Answer({ turn, isLast }: { turn: Turn; isLast: boolean }) {
  const over = turn.state !== "waiting" && turn.state !== "streaming";
  return (
    <>
      {turn.reasoning && (
        <details class="reasoning">
          <summary>{turn.text || over ? "Reasoning" : "Reasoning …"}</summary>
          <Markdown text={turn.reasoning} />
        </details>
      )}
      {turn.state === "waiting" && <p class="waiting">{turn.progress ? `Reading the prompt: ${turn.progress}` : "Reading the prompt"}</p>}
      {turn.text && <Markdown text={turn.text} />}
      {turn.error && (
        <p class="notice is-bad" role="alert">
          <b>No answer</b>
          <span>{turn.error}</span>
        </p>
      )}
      {turn.warnings.map((warning) => (
        <p key={warning} class="notice is-warm">
          {warning}
        </p>
      ))}
      {over && (
        <footer class="turn-foot">
          <Took turn={turn} />
          <span class="turn-acts">
            {turn.text && <CopyButton text={turn.text} what="answer" />}
            {isLast && (
              <button class="quiet small" onClick={() => void again(turn.id)}>
                Again
              </button>
            )}
          </span>
        </footer>
      )}
    </>
  );
}

const ENDINGS: Record<string, string> = { length: "cut off at the most tokens", content_filter: "filtered", tool_calls: "calls a tool" };

/** Where the answer's time went. */
function Took({ turn }: { turn: Turn }) {
  const { timings, outputTokens, promptTokens, finish, state } = turn;
  const ending = state === "stopped" ? "stopped" : (ENDINGS[finish ?? ""] ?? "");
  const facts: [string, string | null][] = [
    ["First token", timings && duration(timings.ttft_s)],
    ["Prefill", timings && rate(timings.prefill_tok_s)],
    ["Decode", timings && rate(timings.decode_tok_s)],
    ["Prompt", promptTokens === null ? null : several(promptTokens, "token") + (timings?.cached_tokens ? `, ${count(timings.cached_tokens)} cached` : "")],
    ["Answer", outputTokens === null ? null : several(outputTokens, "token")],
    ["Ended", ending || null],
  ];
  return (
    <dl class="took">
      {facts.map(
        ([words, value]) =>
          value && (
            <div key={words}>
              <dt>{words}</dt>
              <dd class="number">{value}</dd>
            </div>
          ),
      )}
    </dl>
  );
}
