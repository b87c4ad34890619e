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
  /** Bytes that the tier may hold: the end of the division, marked by a line. */
  limit: number;
  /** Bytes that the whole width stands for; the limit where it is left out. */
  scale?: number;
  marks?: Mark[];
  label: string;
}

const STEPS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512].flatMap((n) => [n * 2 ** 20, n * 2 ** 30, n * 2 ** 40]).sort((a, b) => a - b);

/** How a tier's bytes are divided: one bar whose parts are in proportion. */
export function Division({ shares, limit, scale, marks = [], label }: Props) {
  const whole = Math.max(scale ?? limit, ...marks.map((mark) => mark.at), 1);
  const share = (nbytes: number) => `${(100 * nbytes) / whole}%`;
  const parts = KINDS.filter((kind) => shares[kind]);
  return (
    <div class="division" role="img" aria-label={`${label}. ${inWords(shares, limit)}`}>
      <div class="division-track" style={{ "--limit-at": share(limit) }}>
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
        <i class="division-limit" style={{ left: share(limit) }} />
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

function inWords(shares: Shares, limit: number): string {
  const parts = KINDS.filter((kind) => shares[kind]).map((kind) => `${KIND_NAMES[kind]} ${bytes(shares[kind])}`);
  return `${parts.join(", ") || "nothing yet"}; the limit is ${bytes(limit)}`;
}

/** Three to five round places on the scale. */
function ticks(whole: number): number[] {
  const step = STEPS.find((size) => whole / size <= 5) ?? whole;
  return Array.from({ length: Math.floor((whole * 0.995) / step) + 1 }, (_, index) => index * step);
}
