import { effect, signal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import uPlot from "uplot";
import { age, trimmed } from "../format";
import type { Series } from "../state/history";
import { history, samples } from "../state/live";
import { isDark } from "../state/theme";
import { color } from "./colors";

export interface Line {
  series: Series;
  label: string;
  /** Custom property of its colour. */
  tone: string;
  dashed?: boolean;
}

interface Props {
  title: string;
  lines: Line[];
  format: (value: number | null | undefined) => string;
  /** Marks on the axis are round in powers of 1024. */
  binary?: boolean;
  /** A value that is drawn as a line across, such as a limit. */
  limit?: number | null;
}

/** Spans of the past that can be shown: seconds, in words, and seconds between marks on the axis. */
export const SPANS = [
  [60, "1 min", 15],
  [300, "5 min", 60],
  [1800, "30 min", 300],
] as const;

/** How much of the past the charts show, in seconds. */
export const span_s = signal<number>(300);

/** The sample that the pointer is on, in all charts at once; null: the latest. */
const pointed = signal<number | null>(null);

const HEIGHT = 108;
const POWERS = Array.from({ length: 44 }, (_, power) => 2 ** power);
const sync = uPlot.sync("time");

export function Chart({ title, lines, format, binary, limit }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const limited = useMemo(() => signal(limit), []);
  limited.value = limit;
  useEffect(() => draw(place.current!, { lines, format, binary: binary ?? false, limit: () => limited.value ?? null }), []);
  void samples.value;
  const at = pointed.value ?? history.times.length - 1;
  const values = lines.map((line) => history.column(line.series)[at]);
  return (
    <figure class="chart">
      <figcaption>
        <span class="chart-title">{title}</span>
        <span class="chart-values">
          {lines.map((line, index) => (
            <span key={line.series}>
              {lines.length > 1 && (
                <span class="chart-label">
                  <i class={line.dashed ? "dashed" : ""} style={{ color: `var(${line.tone})` }} aria-hidden="true" />
                  {line.label}
                </span>
              )}
              <b class="number">{format(values[index])}</b>
            </span>
          ))}
        </span>
      </figcaption>
      <div ref={place} class="chart-place" aria-hidden="true" />
    </figure>
  );
}

interface Drawing {
  lines: Line[];
  format: Props["format"];
  binary: boolean;
  limit: () => number | null;
}

function draw(place: HTMLElement, drawing: Drawing): () => void {
  const { lines } = drawing;
  const plot = new uPlot(options(place, drawing), table(lines), place);
  const resized = new ResizeObserver(() => plot.setSize({ width: place.clientWidth, height: HEIGHT }));
  resized.observe(place);
  const follow = effect(() => {
    void samples.value;
    const end = history.times.at(-1) ?? 0;
    plot.setData(table(lines), false);
    plot.setScale("x", { min: end - span_s.value, max: end });
  });
  const recolor = effect(() => {
    void isDark.value;
    requestAnimationFrame(() => plot.redraw(false, true));
  });
  return () => [follow, recolor, () => resized.disconnect(), () => plot.destroy()].forEach((end) => end());
}

function table(lines: Line[]): uPlot.AlignedData {
  return [history.times, ...lines.map((line) => history.column(line.series))];
}

function options(place: HTMLElement, { lines, format, binary, limit }: Drawing): uPlot.Options {
  const axis = { stroke: () => color("--muted"), font: "11px system-ui, sans-serif", ticks: { show: false } };
  const grid = { stroke: () => color("--line"), width: 1 };
  return {
    width: place.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    padding: [6, 16, 0, 0],
    cursor: {
      sync: { key: sync.key },
      drag: { x: false, y: false },
      y: false,
      points: { size: 6 },
    },
    scales: {
      x: { time: false },
      y: { range: (_plot, _low, high) => [0, Math.max((high || 0) * 1.15, (limit() ?? 0) * 1.05) || 1] },
    },
    axes: [
      { ...axis, grid: { show: false }, size: 22, gap: 5, splits, values: (plot, at) => at.map((time) => ago(plot, time)) },
      {
        ...axis,
        grid,
        size: 58,
        gap: 4,
        space: 30,
        ...(binary ? { incrs: POWERS } : {}),
        values: (_plot, at) => at.map((value) => (value ? trimmed(format(value)).replace(/ tok\/s$|\/s$/, "") : "0")),
      },
    ],
    series: [
      {},
      ...lines.map((line) => ({
        stroke: () => color(line.tone),
        fill: () => (line.dashed || lines.length > 1 ? "transparent" : faint(color(line.tone))),
        width: 1.5,
        dash: line.dashed ? [4, 3] : [],
        points: { show: false },
        spanGaps: false,
      })),
    ],
    hooks: { setCursor: [(plot) => (pointed.value = plot.cursor.idx ?? null)], draw: [(plot) => drawLimit(plot, limit())] },
  };
}

/** Round times before now, not round times of the server's clock. */
function splits(_plot: uPlot, _axis: number, min: number, max: number): number[] {
  const step = SPANS.find(([span]) => span === Math.round(max - min))?.[2] ?? 60;
  const at: number[] = [];
  for (let time = max; time > min; time -= step) at.unshift(time);
  return at;
}

function faint(rgb: string): string {
  return rgb.replace("rgb(", "rgba(").replace(")", ", 0.12)");
}

function ago(plot: uPlot, time: number): string {
  const past = Math.round((plot.scales.x?.max ?? time) - time);
  return past === 0 ? "now" : past % 60 === 0 && past >= 60 ? `−${past / 60} min` : `−${age(past)}`;
}

function drawLimit(plot: uPlot, limit: number | null): void {
  if (limit === null) return;
  const { ctx, bbox } = plot;
  const y = Math.round(plot.valToPos(limit, "y", true)) + 0.5;
  ctx.save();
  ctx.strokeStyle = color("--limit");
  ctx.lineWidth = devicePixelRatio;
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.restore();
}
