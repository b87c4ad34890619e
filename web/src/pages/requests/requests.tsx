import { signal } from "@preact/signals";
import { call } from "../../api/client";
import { inWords } from "../../api/errors";
import type { RequestState } from "../../api/types";
import { Awaiting } from "../../parts/awaiting";
import { Empty } from "../../parts/card";
import { Meter } from "../../parts/meter";
import { age, count, duration, rate, several } from "../../format";
import { status } from "../../state/live";
import { Figure } from "../experts/summary";

/** What the last cancellation came to, for those who do not see the row go. */
const said = signal("");
const leaving = signal<ReadonlySet<string>>(new Set());

const STATES: Record<RequestState["state"], string> = {
  waiting: "Waiting",
  loading: "Loading",
  prefill: "Reading prompt",
  decode: "Answering",
};

/** What runs and what waits. */
export function Requests() {
  const now = status.value;
  if (!now) return <Awaiting title="Requests" />;
  const waiting = now.requests.filter((request) => request.state === "waiting").length;
  return (
    <>
      <h1>Requests</h1>
      <dl class="figures">
        <Figure words="Running" value={count(now.requests.length - waiting)} />
        <Figure words="Waiting" value={count(waiting)} />
        <Figure words="Decode" value={rate(now.rates.decode_tok_s)} small="all requests together" />
        <Figure words="Time to first token" value={duration(now.rates.ttft_p50_s)} small={`p99 ${duration(now.rates.ttft_p99_s)}`} />
      </dl>
      <p role="status" class="said">
        {said.value}
      </p>
      {now.requests.length ? (
        <List requests={now.requests} named={now.models.length > 1} />
      ) : (
        <Empty title="No requests">The next one shows here as soon as it arrives.</Empty>
      )}
    </>
  );
}

function List({ requests, named }: { requests: RequestState[]; named: boolean }) {
  return (
    <table class="requests">
      <caption class="hidden">Requests that run or wait</caption>
      <thead>
        <tr>
          <th scope="col">Request</th>
          <th scope="col">Progress</th>
          <th scope="col" class="right">
            Prompt
          </th>
          <th scope="col" class="right">
            Answer
          </th>
          <th scope="col" class="right">
            Age
          </th>
          <th scope="col" class="right">
            First token
          </th>
          <th scope="col" class="right">
            Speed
          </th>
          <th scope="col">
            <span class="hidden">Cancel</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {requests.map((request) => (
          <Row key={request.id} request={request} named={named} />
        ))}
      </tbody>
    </table>
  );
}

function Row({ request, named }: { request: RequestState; named: boolean }) {
  const { id, state, prompt_tokens, cached_tokens, output_tokens, max_tokens } = request;
  const goes = leaving.value.has(id);
  return (
    <tr class={goes ? "is-leaving" : ""}>
      <th scope="row">
        <code title={id}>{short(id)}</code>
        {named && <small>{request.model}</small>}
      </th>
      <td class="progress">
        <span class={`tag is-${state}`}>{STATES[state] ?? state}</span>
        <Meter label={`Progress of ${short(id)}`} share={shareDone(request)} tone={`is-${state}`} words={progressWords(request)} />
        <small class="number">{progressWords(request)}</small>
      </td>
      <td class="right number" data-name="Prompt">
        {count(prompt_tokens)}
        {!!cached_tokens && <small>{`${count(cached_tokens)} cached`}</small>}
      </td>
      <td class="right number" data-name="Answer">
        {count(output_tokens)}
        <small>{`of ${count(max_tokens)}`}</small>
      </td>
      <td class="right number" data-name="Age">
        {age(request.age_s)}
      </td>
      <td class="right number" data-name="First token">
        {duration(request.ttft_s)}
      </td>
      <td class="right number" data-name="Speed">
        {rate(request.tok_s)}
      </td>
      <td class="right act">
        <button class="danger" disabled={goes} onClick={() => void cancel(id)} aria-label={`Cancel request ${short(id)}`}>
          {goes ? "Cancelling" : "Cancel"}
        </button>
      </td>
    </tr>
  );
}

/** Enough of an id to tell requests apart. */
function short(id: string): string {
  return id.length > 16 ? `${id.slice(0, 8)}…${id.slice(-4)}` : id;
}

function shareDone({ state, prompt_tokens, computed_tokens, output_tokens, max_tokens }: RequestState): number {
  if (state === "decode") return output_tokens / Math.max(1, max_tokens);
  return computed_tokens / Math.max(1, prompt_tokens);
}

function progressWords(request: RequestState): string {
  const { state, prompt_tokens, computed_tokens, output_tokens, max_tokens } = request;
  if (state === "decode") return `${count(output_tokens)} of ${several(max_tokens, "token")}`;
  if (state === "prefill") return `${count(computed_tokens)} of ${several(prompt_tokens, "prompt token")}`;
  return state === "loading" ? "the model is being loaded" : "in the queue";
}

async function cancel(id: string): Promise<void> {
  leaving.value = new Set([...leaving.value, id]);
  try {
    await call(`v1/apportion/requests/${encodeURIComponent(id)}`, { method: "DELETE" });
    said.value = `Request ${short(id)} was told to stop.`;
  } catch (error) {
    said.value = `Request ${short(id)} could not be cancelled: ${inWords(error)}`;
    leaving.value = new Set([...leaving.value].filter((other) => other !== id));
  }
}
