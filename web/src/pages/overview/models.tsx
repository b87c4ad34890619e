import type { ModelState } from "../../api/types";
import { Card, Empty } from "../../parts/card";
import { bytes, count, percent } from "../../format";
import { sentence } from "../../words";

/** The models that are served, and how each is laid out. */
export function Models({ models }: { models: ModelState[] }) {
  return (
    <Card title={models.length > 1 ? "Models" : "Model"}>
      {models.length ? (
        <div class="models">
          {models.map((model) => (
            <Model key={model.name} model={model} />
          ))}
        </div>
      ) : (
        <Empty title="No model">The server was started without one.</Empty>
      )}
    </Card>
  );
}

function Model({ model }: { model: ModelState }) {
  return (
    <article class="model">
      <h3>
        {model.name} <span class={`tag ${model.state === "loaded" ? "is-good" : model.state === "failed" ? "is-bad" : ""}`}>{model.state}</span>
      </h3>
      {model.error && <p class="is-bad">{model.error}</p>}
      <dl class="facts">
        {facts(model).map(([words, value]) => (
          <div key={words}>
            <dt>{words}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {!!model.plan?.advice.length && (
        <details>
          <summary>What would make it faster</summary>
          <ul class="advice">
            {model.plan.advice.map((line) => (
              <li key={line}>{line}</li>
            ))}
          </ul>
        </details>
      )}
    </article>
  );
}

function facts({ ctx, scheduler, kv, plan, experts }: ModelState): [string, string][] {
  const rows: [string, string | null][] = [
    ["Context", ctx === null ? null : `${count(ctx)} tokens`],
    ["Scheduler", scheduler && sentence(scheduler)],
    ["Keys and values", kv && `${kv.codec}, ${count(kv.blocks - kv.free_blocks)} of ${count(kv.blocks)} blocks`],
    ["Kept for later prompts", kv && `${count(kv.kept_blocks)} blocks`],
    ["Weights in memory", plan && percent(plan.resident_fraction, 1)],
    ["Layers that stream", plan?.streamed_layers.length ? count(plan.streamed_layers.length) : null],
    ["Read per token", plan && plan.disk_bytes_per_token ? bytes(plan.disk_bytes_per_token) : null],
    ["Expert hit rate", experts && percent(experts.hits / (experts.hits + experts.misses), 1)],
    ["Experts in memory", experts && `${count(experts.resident)} of ${count(experts.layers * experts.experts)}`],
  ];
  return rows.filter((row): row is [string, string] => row[1] !== null);
}
