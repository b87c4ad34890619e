import type { Plan } from "../../api/types";
import { bytes, rate } from "../../format";
import { curve } from "./forecasting";

const WIDTH = 640;
const HEIGHT = 150;
const LEFT = 8;
const BOTTOM = 22;
const TOP = 12;

interface Props {
  plan: Plan;
  wished: number;
  onBudget: (nbytes: number) => void;
}

/** Decode speed over the budget, from the smallest that does to the one that keeps everything in memory. */
export function Curve({ plan, wished, onBudget }: Props) {
  const points = [...curve.value].sort((a, b) => a[0] - b[0]);
  const { smallest_budget: low, resident_budget: high } = plan;
  if (!low || !high || high <= low || points.length < 4) return null;
  const fastest = Math.max(...points.map(([, speed]) => speed));
  const x = (ram: number) => LEFT + ((Math.min(high, Math.max(low, ram)) - low) / (high - low)) * (WIDTH - 2 * LEFT);
  const y = (speed: number) => HEIGHT - BOTTOM - (speed / fastest) * (HEIGHT - BOTTOM - TOP);
  const inside = points.filter(([ram]) => ram >= low && ram <= high);
  const line = inside.map(([ram, speed]) => `${x(ram).toFixed(1)},${y(speed).toFixed(1)}`);
  const choose = (event: MouseEvent) => {
    const { left, width } = (event.currentTarget as Element).getBoundingClientRect();
    const share = Math.min(1, Math.max(0, ((event.clientX - left) / width) * (WIDTH / (WIDTH - 2 * LEFT))));
    onBudget(Math.round((low + share * (high - low)) / 2 ** 20) * 2 ** 20);
  };
  return (
    <figure class="curve">
      <figcaption>
        <span>Decode speed by budget</span>
        <span class="number">{`${rate(plan.forecast.decode_tok_s)} at ${bytes(wished)}`}</span>
      </figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={inWords(points)} onClick={choose}>
        <line class="curve-base" x1={LEFT} x2={WIDTH - LEFT} y1={HEIGHT - BOTTOM} y2={HEIGHT - BOTTOM} />
        <polygon class="curve-fill" points={[`${x(inside[0]![0])},${HEIGHT - BOTTOM}`, ...line, `${x(inside.at(-1)![0])},${HEIGHT - BOTTOM}`].join(" ")} />
        <polyline class="curve-line" points={line.join(" ")} />
        <line class="curve-here" x1={x(wished)} x2={x(wished)} y1={TOP - 6} y2={HEIGHT - BOTTOM} />
        <circle class="curve-dot" cx={x(wished)} cy={y(plan.forecast.decode_tok_s ?? 0)} r="5" />
      </svg>
      <div class="curve-ends number" aria-hidden="true">
        <span>{bytes(low)}</span>
        <span>{bytes(high)}</span>
      </div>
    </figure>
  );
}

function inWords(points: [number, number][]): string {
  const [first, last] = [points[0]!, points.at(-1)!];
  return `From ${rate(first[1])} with ${bytes(first[0])} to ${rate(last[1])} with ${bytes(last[0])}`;
}
