import { useEffect, useRef, useState } from "preact/hooks";
import type { Experts } from "../../api/types";
import { count } from "../../format";
import { isDark } from "../../state/theme";
import { cellAt, measure, moved, paint, type Cell } from "./painting";

export const MODES = [
  ["resident", "In memory"],
  ["hits", "Hits"],
  ["misses", "Misses"],
] as const;

export type Mode = (typeof MODES)[number][0];

/** Layers down, experts across. The arrow keys walk over the cells; what they are on is read out. */
export function HeatMap({ table, mode }: { table: Experts; mode: Mode }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [cell, setCell] = useState<Cell | null>(null);
  const [width, setWidth] = useState(0);
  const dark = isDark.value;
  useEffect(() => {
    const resized = new ResizeObserver(([entry]) => setWidth(Math.floor(entry!.contentRect.width)));
    resized.observe(canvas.current!.parentElement!);
    return () => resized.disconnect();
  }, []);
  useEffect(() => {
    if (width) paint(canvas.current!, table, mode, measure(width, table), cell);
  }, [table, mode, cell, width, dark]);

  const walk = (event: KeyboardEvent) => {
    const next = moved(event.key, cell, table);
    if (!next) return;
    event.preventDefault();
    setCell(next);
  };
  const point = (event: PointerEvent) => setCell(cellAt(event.offsetX, event.offsetY, measure(width, table), table));
  return (
    <div class="heat">
      <div class="heat-place">
        <canvas
          ref={canvas}
          tabIndex={0}
          role="application"
          aria-roledescription="heat map"
          aria-label={`${table.layers} layers of ${table.experts} experts. Arrow keys walk over the cells, Home and End go to the first and last expert.`}
          aria-describedby="cell"
          onKeyDown={walk}
          onFocus={() => cell ?? setCell({ layer: 0, expert: 0 })}
          onPointerMove={point}
          onPointerLeave={(event) => document.activeElement !== event.currentTarget && setCell(null)}
        />
      </div>
      <div class="heat-foot">
        <p id="cell" aria-live="polite" class="number">
          {cell ? readout(table, cell) : "Point at a cell, or focus the map and use the arrow keys."}
        </p>
        <Key table={table} mode={mode} />
      </div>
    </div>
  );
}

function readout(table: Experts, { layer, expert }: Cell): string {
  const place = table.resident[layer]?.[expert] ? "in memory" : "on disk";
  const hits = count(table.hits[layer]?.[expert] ?? 0);
  const misses = count(table.misses[layer]?.[expert] ?? 0);
  return `Layer ${table.numbers[layer]}, expert ${expert}: ${place}, ${hits} hits, ${misses} misses`;
}

/** What the colours mean. */
function Key({ table, mode }: { table: Experts; mode: Mode }) {
  if (mode === "resident") {
    return (
      <p class="heat-key">
        <i class="swatch k-expert_slots" aria-hidden="true" /> in memory <i class="swatch k-cold" aria-hidden="true" /> on disk
      </p>
    );
  }
  const most = Math.max(...table[mode].flat());
  return (
    <p class="heat-key number">
      0 <i class={`ramp is-${mode}`} aria-hidden="true" /> {count(most)}
    </p>
  );
}
