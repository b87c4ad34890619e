import type { Experts } from "../../api/types";
import { channels, color } from "../../parts/colors";
import type { Mode } from "./heat-map";

export interface Cell {
  layer: number;
  expert: number;
}

/** Pixels: of the labels at the side, of a cell in both directions, and of the whole. */
export interface Measures {
  gutter: number;
  cellWidth: number;
  cellHeight: number;
  width: number;
  height: number;
}

const GUTTER = 28;
const HEAD = 4;
const FOOT = 18;
const TONES: Record<Mode, string> = { resident: "--c-expert_slots", hits: "--c-expert_slots", misses: "--c-workspace" };

export function measure(width: number, table: Experts): Measures {
  const cellWidth = (width - GUTTER) / table.experts;
  const cellHeight = Math.round(Math.min(20, Math.max(8, cellWidth)));
  return { gutter: GUTTER, cellWidth, cellHeight, width, height: HEAD + cellHeight * table.layers + FOOT };
}

export function cellAt(x: number, y: number, measures: Measures, table: Experts): Cell | null {
  const expert = Math.floor((x - measures.gutter) / measures.cellWidth);
  const layer = Math.floor((y - HEAD) / measures.cellHeight);
  return expert >= 0 && expert < table.experts && layer >= 0 && layer < table.layers ? { layer, expert } : null;
}

const STEPS: Record<string, [number, number]> = {
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
  Home: [0, -Infinity],
  End: [0, Infinity],
  PageUp: [-Infinity, 0],
  PageDown: [Infinity, 0],
};

/** Where a key leads from a cell; null: nowhere. */
export function moved(key: string, from: Cell | null, table: Experts): Cell | null {
  const step = STEPS[key];
  if (!step) return null;
  const inside = (value: number, size: number) => Math.min(size - 1, Math.max(0, value));
  const { layer, expert } = from ?? { layer: 0, expert: 0 };
  return { layer: inside(layer + step[0], table.layers), expert: inside(expert + step[1], table.experts) };
}

export function paint(canvas: HTMLCanvasElement, table: Experts, mode: Mode, measures: Measures, cell: Cell | null): void {
  const { width, height } = measures;
  canvas.width = Math.round(width * devicePixelRatio);
  canvas.height = Math.round(height * devicePixelRatio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d")!;
  pen.scale(devicePixelRatio, devicePixelRatio);
  paintCells(pen, table, mode, measures);
  paintLabels(pen, table, measures);
  if (cell) paintFrame(pen, cell, measures);
}

function paintCells(pen: CanvasRenderingContext2D, table: Experts, mode: Mode, measures: Measures): void {
  const values = table[mode];
  const most = Math.max(1, ...values.map((row) => Math.max(...row)));
  const cold = channels("--cold");
  const warm = channels(TONES[mode]);
  const gap = measures.cellWidth > 5 ? 1 : 0.5;
  for (let layer = 0; layer < table.layers; layer++) {
    for (let expert = 0; expert < table.experts; expert++) {
      // Logarithmic: a few experts have most of the uses, and the others differ, too.
      const heat = Math.log1p(values[layer]?.[expert] ?? 0) / Math.log1p(most);
      pen.fillStyle = `rgb(${cold.map((from, index) => from + (warm[index]! - from) * heat).join(" ")})`;
      const x = measures.gutter + expert * measures.cellWidth;
      pen.fillRect(x, HEAD + layer * measures.cellHeight, measures.cellWidth - gap, measures.cellHeight - gap);
    }
  }
}

function paintLabels(pen: CanvasRenderingContext2D, table: Experts, measures: Measures): void {
  pen.fillStyle = color("--muted");
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  const every = Math.ceil(16 / measures.cellHeight);
  for (let layer = 0; layer < table.layers; layer += every) {
    pen.fillText(String(table.numbers[layer]), measures.gutter - 7, HEAD + (layer + 0.5) * measures.cellHeight);
  }
  pen.textAlign = "center";
  const step = [1, 2, 4, 8, 16, 32, 64].find((size) => size * measures.cellWidth >= 26) ?? 64;
  for (let expert = 0; expert < table.experts; expert += step) {
    pen.fillText(String(expert), measures.gutter + (expert + 0.5) * measures.cellWidth, measures.height - FOOT / 2 + 2);
  }
}

function paintFrame(pen: CanvasRenderingContext2D, { layer, expert }: Cell, measures: Measures): void {
  pen.strokeStyle = color("--ink");
  pen.lineWidth = 2;
  const x = measures.gutter + expert * measures.cellWidth;
  pen.strokeRect(x - 1, HEAD + layer * measures.cellHeight - 1, measures.cellWidth + 1, measures.cellHeight + 1);
}
