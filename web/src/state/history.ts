import type { Status } from "../api/types";

const MOST = 1800; // half an hour at one a second

/** What the charts draw: one number or gap per sample, in the order of `SERIES`. */
export const SERIES = [
  "decode",
  "prefill",
  "ttft_p50",
  "ttft_p99",
  "tpot_p50",
  "tpot_p99",
  "disk",
  "rss",
  "leased",
] as const;
export type Series = (typeof SERIES)[number];

function valuesOf(status: Status): Record<Series, number | null> {
  const { rates, budget } = status;
  return {
    decode: rates.decode_tok_s,
    prefill: rates.prefill_tok_s,
    ttft_p50: rates.ttft_p50_s,
    ttft_p99: rates.ttft_p99_s,
    tpot_p50: rates.tpot_p50_s,
    tpot_p99: rates.tpot_p99_s,
    disk: rates.disk_read_bytes_s,
    rss: budget.ram.rss_bytes,
    leased: budget.ram.leased_bytes,
  };
}

/** The samples since the page was opened, by the server's own clock. */
export class History {
  readonly times: number[] = [];
  readonly stalls: Record<string, number>[] = [];
  private readonly columns = new Map<Series, (number | null)[]>(SERIES.map((name) => [name, []]));

  add(status: Status): void {
    if (status.uptime_s < (this.times.at(-1) ?? 0)) this.clear(); // the server was started anew
    this.times.push(status.uptime_s);
    this.stalls.push(status.stalls);
    const values = valuesOf(status);
    for (const [name, column] of this.columns) column.push(values[name] ?? null);
    if (this.times.length > MOST) for (const list of this.lists()) list.shift();
  }

  column(name: Series): (number | null)[] {
    return this.columns.get(name)!;
  }

  /** Seconds stalled by cause within the last `window_s`. */
  stalledWithin(window_s: number): Record<string, number> {
    const now = this.stalls.at(-1) ?? {};
    const end = this.times.at(-1) ?? 0;
    const then = this.stalls[this.times.findIndex((time) => time >= end - window_s)] ?? {};
    return Object.fromEntries(Object.entries(now).map(([cause, value]) => [cause, Math.max(0, value - (then[cause] ?? 0))]));
  }

  private lists(): unknown[][] {
    return [this.times, this.stalls, ...this.columns.values()];
  }

  private clear(): void {
    for (const list of this.lists()) list.length = 0;
  }
}
