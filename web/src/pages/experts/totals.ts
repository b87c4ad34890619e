import type { Experts } from "../../api/types";

/** What one layer, or all of them, come to. */
export interface Totals {
  resident: number;
  experts: number;
  hits: number;
  misses: number;
}

export function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

export function totalsOf(table: Experts, layer: number): Totals {
  return {
    resident: sum(table.resident[layer] ?? []),
    experts: table.experts,
    hits: sum(table.hits[layer] ?? []),
    misses: sum(table.misses[layer] ?? []),
  };
}

export function allTotals(table: Experts): Totals[] {
  return Array.from({ length: table.layers }, (_, layer) => totalsOf(table, layer));
}

/** Share of what was asked for that was in memory; null: nothing was asked for. */
export function hitRate({ hits, misses }: { hits: number; misses: number }): number | null {
  return hits + misses ? hits / (hits + misses) : null;
}

/** Share of all uses that the busiest tenth of a layer's experts has: 0.1 where all are used alike. */
export function skew(table: Experts): number | null {
  const busiest = Math.max(1, Math.round(table.experts / 10));
  let few = 0;
  let all = 0;
  for (let layer = 0; layer < table.layers; layer++) {
    const uses = (table.hits[layer] ?? []).map((hits, expert) => hits + (table.misses[layer]?.[expert] ?? 0));
    few += sum([...uses].sort((a, b) => b - a).slice(0, busiest));
    all += sum(uses);
  }
  return all ? few / all : null;
}
