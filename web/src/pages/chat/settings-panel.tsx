import { status } from "../../state/live";
import { set, settings, type Settings } from "./settings";

interface NumberField {
  name: "temperature" | "topP" | "maxTokens" | "seed";
  words: string;
  min?: number;
  max?: number;
  step: number | "any";
}

const NUMBERS: NumberField[] = [
  { name: "temperature", words: "Temperature", min: 0, max: 2, step: 0.1 },
  { name: "topP", words: "Top-p", min: 0, max: 1, step: 0.05 },
  { name: "maxTokens", words: "Most tokens", min: 1, step: 1 },
  { name: "seed", words: "Seed", step: 1 },
];

/** How the next answer is asked for. */
export function SettingsPanel() {
  const now: Settings = settings.value;
  const models = status.value?.models ?? [];
  return (
    <details class="chat-settings card" open={matchMedia("(min-width: 1000px)").matches}>
      <summary>Settings</summary>
      <label class="field">
        <span>Model</span>
        <select value={now.model || models[0]?.name} onChange={(event) => set({ model: event.currentTarget.value })}>
          {models.map(({ name }) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      </label>
      <label class="field">
        <span>System prompt</span>
        <textarea rows={4} value={now.system} onInput={(event) => set({ system: event.currentTarget.value })} />
      </label>
      <div class="field-pair">
        {NUMBERS.map(({ name, words, ...bounds }) => (
          <label key={name} class="field">
            <span>{words}</span>
            <input
              type="number"
              inputmode="decimal"
              class="number"
              placeholder="default"
              value={now[name]}
              onInput={(event) => set({ [name]: event.currentTarget.value })}
              {...bounds}
            />
          </label>
        ))}
      </div>
    </details>
  );
}
