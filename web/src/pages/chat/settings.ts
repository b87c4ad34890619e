import { signal } from "@preact/signals";

export interface Settings {
  model: string;
  system: string;
  /** Typed numbers; empty: the server's default. */
  temperature: string;
  topP: string;
  maxTokens: string;
  seed: string;
}

export const settings = signal<Settings>({ model: "", system: "", temperature: "", topP: "", maxTokens: "", seed: "" });

export function set(changes: Partial<Settings>): void {
  settings.value = { ...settings.value, ...changes };
}

/** The fields of a request that were set. */
export function fields({ temperature, topP, maxTokens, seed }: Settings): Record<string, number> {
  const typed: [string, string][] = [
    ["temperature", temperature],
    ["top_p", topP],
    ["max_completion_tokens", maxTokens],
    ["seed", seed],
  ];
  return Object.fromEntries(typed.filter(([, text]) => text.trim()).map(([name, text]) => [name, Number(text)]));
}
