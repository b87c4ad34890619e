import type { Forecast, Plan } from "../../api/types";
import { Card } from "../../parts/card";
import { Division } from "../../parts/division";
import { bytes, count, duration, percent, rate, several } from "../../format";
import { KIND_NAMES, KINDS } from "../../words";
import { Figure } from "../experts/summary";
import { Curve } from "./curve";
import type { Answer } from "./forecasting";

const LONG = 45; // characters that a column does not hold in two lines

interface Props {
  answer: Answer;
  wished: number;
  onBudget: (nbytes: number) => void;
}

/** What would come of the wish: the division, the speed and the reasons, or why it cannot be. */
export function Outcome({ answer, wished, onBudget }: Props) {
  if ("plan" in answer) return <Planned plan={answer.plan} wished={wished} onBudget={onBudget} />;
  return (
    <Card title="It does not fit" class="refusal">
      <p>{answer.why}</p>
      {answer.hint && <p class="muted">{answer.hint}</p>}
      {answer.smallest && (
        <button class="primary" onClick={() => onBudget(answer.smallest!)}>
          {`Try ${bytes(answer.smallest)}, the smallest that does`}
        </button>
      )}
    </Card>
  );
}

function Planned({ plan, wished, onBudget }: { plan: Plan; wished: number; onBudget: (nbytes: number) => void }) {
  const { forecast } = plan;
  return (
    <>
      <Card title="How fast" aside={forecast.basis && <span class="aside">{`reckoned with ${forecast.basis}`}</span>}>
        <dl class="figures">
          <Figure words="Decode" value={rate(forecast.decode_tok_s)} small={range(forecast, "decode_tok_s", rate)} />
          <Figure words="Prefill" value={rate(forecast.prefill_tok_s)} small={range(forecast, "prefill_tok_s", rate)} />
          <Figure
            words={`First token${forecast.prompt_tokens ? ` after ${forecast.prompt_tokens}` : ""}`}
            value={duration(forecast.ttft_s)}
            small={range(forecast, "ttft_s", duration)}
          />
          <Figure words="Loading" value={duration(forecast.load_s)} small={range(forecast, "load_s", duration)} />
        </dl>
        <Curve plan={plan} wished={wished} onBudget={onBudget} />
      </Card>
      <Card title="How it would be divided" aside={<span class="aside number">{bytes(plan.ram)}</span>}>
        <Division shares={plan.bytes} limit={plan.ram} label="Planned memory" />
        <ul class="legend">
          {KINDS.filter((kind) => plan.bytes[kind]).map((kind) => (
            <li key={kind}>
              <i class={`swatch k-${kind}`} aria-hidden="true" />
              {KIND_NAMES[kind]} <b class="number">{bytes(plan.bytes[kind])}</b>
            </li>
          ))}
        </ul>
      </Card>
      <Card title="Why, and what would help">
        <dl class="facts">
          {reasons(plan).map(([words, value]) => (
            <div key={words} class={value.length > LONG ? "wide" : ""}>
              <dt>{words}</dt>
              <dd>{value}</dd>
            </div>
          ))}
        </dl>
        {!!plan.advice.length && (
          <ul class="advice">
            {plan.advice.map((line) => (
              <li key={line}>{line}</li>
            ))}
          </ul>
        )}
      </Card>
    </>
  );
}

function range(forecast: Forecast, name: string, format: (value: number) => string): string | undefined {
  const ends = forecast.ranges?.[name];
  if (!ends) return undefined;
  const [low, high] = ends.map((value) => format(value));
  const [number, unit] = [low!.split(" ")[0], low!.split(" ").slice(1).join(" ")];
  return high!.endsWith(unit) ? `${number} to ${high}` : `${low} to ${high}`;
}

function reasons(plan: Plan): [string, string][] {
  const slots = plan.expert_slots.filter(Boolean);
  const rows: [string, string | null | undefined | false][] = [
    ["Weights in memory", percent(plan.resident_fraction, 1)],
    ["Experts in memory", slots.length > 0 && `${[...new Set([Math.min(...slots), Math.max(...slots)])].join(" to ")} of each layer`],
    ["Expected hit rate", slots.length > 0 && `${percent(plan.hit_rate, 1)} (${plan.hit_rate_source})`],
    ["Layers that stream", plan.streamed_layers.length > 0 && several(plan.streamed_layers.length, "layer")],
    ["Read from disk per token", plan.disk_bytes_per_token > 0 ? bytes(plan.disk_bytes_per_token) : "nothing"],
    ["Context", `${count(plan.ctx)} tokens, keys and values as ${plan.kv}`],
    ["Smallest budget", !!plan.smallest_budget && bytes(plan.smallest_budget)],
    ["Everything in memory from", !!plan.resident_budget && bytes(plan.resident_budget)],
    ["Scheduler", plan.scheduler_why ? `${plan.scheduler}: ${plan.scheduler_why}` : plan.scheduler],
  ];
  return rows.filter((row): row is [string, string] => Boolean(row[1]));
}
