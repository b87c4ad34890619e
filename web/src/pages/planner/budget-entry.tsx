import { useEffect, useState } from "preact/hooks";
import { bytes, parseBytes } from "../../format";
import { answer } from "./forecasting";

const MiB = 2 ** 20;
const STEPS = 400;

interface Props {
  budget: number;
  /** What the server runs with; null: it was told none. */
  limit: number | null;
  onChange: (nbytes: number) => void;
}

/** A slider for a feeling and a text field for exactness; both say the same. */
export function BudgetEntry({ budget, limit, onChange }: Props) {
  const [typed, type] = useState(bytes(budget));
  useEffect(() => type(bytes(budget)), [budget]);
  const [low, high] = ends(limit ?? budget);
  const wrong = parseBytes(typed) === null;
  const enter = () => {
    const nbytes = parseBytes(typed);
    // What is shown is rounded: only what was really changed counts.
    if (nbytes && typed !== bytes(budget)) onChange(nbytes);
  };
  return (
    <fieldset class="budget">
      <legend>Memory budget</legend>
      <div class="budget-row">
        <label class="field">
          <span class="hidden">Budget as text</span>
          <input
            class="number"
            value={typed}
            spellcheck={false}
            autocomplete="off"
            aria-invalid={wrong}
            aria-describedby="budget-hint"
            onInput={(event) => type(event.currentTarget.value)}
            onChange={enter}
            onKeyDown={(event) => event.key === "Enter" && enter()}
          />
        </label>
        {limit !== null && (
          <button class="quiet" onClick={() => onChange(limit)} disabled={budget === limit}>
            As it runs
          </button>
        )}
      </div>
      <input
        type="range"
        min={0}
        max={STEPS}
        value={position(budget, low, high)}
        aria-label="Budget"
        aria-valuetext={bytes(budget)}
        onInput={(event) => onChange(budgetAt(Number(event.currentTarget.value), low, high))}
      />
      <p class="budget-ends number" id="budget-hint">
        {wrong ? (
          <span class="is-bad">Write a size such as 4GiB or 512MB.</span>
        ) : (
          <>
            <span>{bytes(low)}</span>
            <span>{bytes(high)}</span>
          </>
        )}
      </p>
    </fieldset>
  );
}

/** From less than would do to more than is needed. */
function ends(limit: number): [number, number] {
  const got = answer.value;
  const smallest = (got && ("plan" in got ? got.plan.smallest_budget : got.smallest)) ?? limit / 8;
  const most = (got && "plan" in got ? got.plan.resident_budget : null) ?? Math.max(limit, smallest) * 4;
  return [Math.max(64 * MiB, Math.floor((smallest * 0.7) / MiB) * MiB), Math.max(limit, Math.ceil((most * 1.15) / MiB) * MiB)];
}

// In proportion, not in bytes: from 300 to 400 MiB matters as much as from 3 to 4 GiB.
function position(budget: number, low: number, high: number): number {
  const share = Math.log(Math.min(high, Math.max(low, budget)) / low) / Math.log(high / low);
  return Math.round(share * STEPS);
}

function budgetAt(position: number, low: number, high: number): number {
  const exact = low * (high / low) ** (position / STEPS);
  const grain = exact > 1024 * MiB ? 32 * MiB : 8 * MiB;
  return Math.max(low, Math.round(exact / grain) * grain);
}
