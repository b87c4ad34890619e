import type { Status } from "../../api/types";
import { Chart, span_s, SPANS, type Line } from "../../parts/chart";
import { Choice } from "../../parts/choice";
import { bytes, duration, rate } from "../../format";

const DECODE: Line[] = [{ series: "decode", label: "Decode", tone: "--accent" }];
const PREFILL: Line[] = [{ series: "prefill", label: "Prefill", tone: "--c-dense_weights" }];
const TTFT: Line[] = [
  { series: "ttft_p50", label: "p50", tone: "--c-io_buffers" },
  { series: "ttft_p99", label: "p99", tone: "--c-io_buffers", dashed: true },
];
const TPOT: Line[] = [
  { series: "tpot_p50", label: "p50", tone: "--c-workspace" },
  { series: "tpot_p99", label: "p99", tone: "--c-workspace", dashed: true },
];
const DISK: Line[] = [{ series: "disk", label: "Reads", tone: "--c-kv" }];
const RAM: Line[] = [
  { series: "leased", label: "apportioned", tone: "--muted", dashed: true },
  { series: "rss", label: "in use", tone: "--ink" },
];

/** Live charts over the last minutes. */
export function Speed({ status }: { status: Status }) {
  const spans = SPANS.map(([seconds, words]) => [String(seconds), words] as const);
  return (
    <section class="speed" aria-labelledby="speed-title">
      <div class="card-head">
        <h2 id="speed-title">Speed</h2>
        <Choice label="Span of the charts" options={spans} chosen={String(span_s.value)} onChoose={(span) => (span_s.value = Number(span))} />
      </div>
      <div class="charts">
        <Chart title="Decode" lines={DECODE} format={rate} />
        <Chart title="Prefill" lines={PREFILL} format={rate} />
        <Chart title="Disk reads" lines={DISK} format={perSecond} binary />
        <Chart title="Time to first token" lines={TTFT} format={duration} />
        <Chart title="Time per output token" lines={TPOT} format={duration} />
        <Chart title="Memory" lines={RAM} format={bytes} binary limit={status.budget.ram.limit_bytes} />
      </div>
    </section>
  );
}

function perSecond(value: number | null | undefined): string {
  return value == null ? bytes(value) : `${bytes(value)}/s`;
}
