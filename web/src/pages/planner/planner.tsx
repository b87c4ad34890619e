import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { Awaiting } from "../../parts/awaiting";
import { Card, Empty } from "../../parts/card";
import { status } from "../../state/live";
import { BudgetEntry } from "./budget-entry";
import { answer, asking, wishFor } from "./forecasting";
import { Outcome } from "./outcome";

const model = signal<string | null>(null);
export const ram = signal(0);
const ctx = signal<number | null>(null);

const CONTEXTS = [1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072];

/** What another budget, another model or a longer context would bring; nothing is changed. */
export function Planner() {
  const now = status.value;
  useEffect(() => {
    if (model.value && ram.value) wishFor({ model: model.value, ram: ram.value, ctx: ctx.value });
  }, [model.value, ram.value, ctx.value, now === null]);
  if (!now) return <Awaiting title="Planner" />;
  model.value ??= now.models[0]?.name ?? null;
  ram.value ||= now.budget.ram.limit_bytes ?? now.budget.ram.leased_bytes;
  if (!model.value) return <Empty title="No model to plan for" />;
  return (
    <>
      <h1>Planner</h1>
      <p class="lead">What would another budget bring? The server reckons it from the model's headers and the measured machine; nothing that runs is changed.</p>
      <div class="planner">
        <Card title="If it had" class="planner-form">
          <label class="field">
            <span>Model</span>
            <select value={model.value} onChange={(event) => (model.value = event.currentTarget.value)}>
              {now.models.map(({ name }) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          </label>
          <BudgetEntry budget={ram.value} limit={now.budget.ram.limit_bytes} onChange={(nbytes) => (ram.value = nbytes)} />
          <label class="field">
            <span>Context</span>
            <select value={ctx.value ?? ""} onChange={(event) => (ctx.value = Number(event.currentTarget.value) || null)}>
              <option value="">As it runs</option>
              {CONTEXTS.map((tokens) => (
                <option key={tokens} value={tokens}>{`${tokens.toLocaleString("en")} tokens`}</option>
              ))}
            </select>
          </label>
        </Card>
        <div class={`planner-outcome ${asking.value ? "is-asking" : ""}`} aria-busy={asking.value}>
          {answer.value ? <Outcome answer={answer.value} wished={ram.value} onBudget={(nbytes) => (ram.value = nbytes)} /> : <Empty title="Reckoning" />}
        </div>
      </div>
    </>
  );
}
