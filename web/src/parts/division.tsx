import { signal } from "@preact/signals";
import type { Kind, Shares } from "../api/types";
import { bytes, trimmed } from "../format";
import { KIND_NAMES, KINDS } from "../words";

/** The kind that the pointer or the focus is on: the others step back, in bar and table. */
export const lit = signal<Kind | null>(null);

export interface Mark {
  words: string;
  at: number;
  tone: "rss" | "peak";
}

interface Props {
  /** Bytes of each kind. */
  shares: Shares;
  /** Bytes that the tier may hold, marked by a line; null: as many as there are. */
  limit: number | null;
  marks?: Mark[];
  label: string;
}

const STEPS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512].flatMap((n) => [n * 2 ** 20, n * 2 ** 30, n * 2 ** 40]).sort((a, b) => a - b);

/** How a tier's bytes are divided: one bar whose parts are in proportion. */
export function Division({ shares, limit, marks = [], label }: Props) {
  const parts = KINDS.filter((kind) => shares[kind]);
  const spoken = parts.reduce((sum, kind) => sum + shares[kind]!, 0);
  const whole = Math.max(limit ?? spoken, ...marks.map((mark) => mark.at), 1);
  const share = (nbytes: number) => `${(100 * nbytes) / whole}%`;
  return (
    <div class="division" role="img" aria-label={`${label}. ${inWords(shares, limit)}`}>
      <div class="division-track" style={{ "--limit-at": share(limit ?? whole) }}>
        {parts.map((kind) => (
          <div
            key={kind}
            class={`part k-${kind} ${lit.value && lit.value !== kind ? "is-dim" : ""}`}
            style={{ width: share(shares[kind]!) }}
            title={`${KIND_NAMES[kind]}: ${bytes(shares[kind])}`}
            onPointerEnter={() => (lit.value = kind)}
            onPointerLeave={() => (lit.value = null)}
          >
            <span>
              <b>{KIND_NAMES[kind]}</b>
              {bytes(shares[kind])}
            </span>
          </div>
        ))}
        {limit !== null && <i class="division-limit" style={{ left: share(limit) }} />}
        {marks.map((mark) => (
          <i key={mark.tone} class={`division-mark is-${mark.tone}`} style={{ left: share(mark.at) }} title={`${mark.words}: ${bytes(mark.at)}`} />
        ))}
      </div>
      <div class="division-scale">
        {ticks(whole).map((at) => (
          <span key={at} style={{ left: share(at) }}>
            {at ? trimmed(bytes(at)) : "0"}
          </span>
        ))}
      </div>
    </div>
  );
}

function inWords(shares: Shares, limit: number | null): string {
  const parts = KINDS.filter((kind) => shares[kind]).map((kind) => `${KIND_NAMES[kind]} ${bytes(shares[kind])}`);
  return `${parts.join(", ") || "nothing yet"}; ${limit === null ? "no limit was stated" : `the limit is ${bytes(limit)}`}`;
}

/** Three to five round places on the scale. */
function ticks(whole: number): number[] {
  const step = STEPS.find((size) => whole / size <= 5) ?? whole;
  return Array.from({ length: Math.floor((whole * 0.995) / step) + 1 }, (_, index) => index * step);
}
