import type { ModelState, SpeedName } from "../../api/types";
import { Card, Empty } from "../../parts/card";
import { duration, percent, rate } from "../../format";

const ROWS: [SpeedName, string, (value: number | null | undefined) => string][] = [
  ["decode_tok_s", "Decode", rate],
  ["prefill_tok_s", "Prefill", rate],
  ["ttft_s", "Time to first token", duration],
];

const NEAR = 0.1; // a forecast that is off by more is a defect of the cost model

/** What the plan promised beside what the last minute brought. */
export function Forecasts({ models }: { models: ModelState[] }) {
  const planned = models.filter((model) => model.state === "loaded" && model.forecast);
  return (
    <Card title="Promised and measured" aside={<span class="aside">last minute</span>}>
      {planned.length ? (
        planned.map((model) => <Comparison key={model.name} model={model} named={planned.length > 1} />)
      ) : (
        <Empty title="No forecast">No model is loaded that was planned for.</Empty>
      )}
    </Card>
  );
}

function Comparison({ model, named }: { model: ModelState; named: boolean }) {
  return (
    <table class="promise">
      <caption class={named ? "" : "hidden"}>{model.name}</caption>
      <thead class="hidden">
        <tr>
          <th scope="col">Figure</th>
          <th scope="col">Both as bars</th>
          <th scope="col">Forecast</th>
          <th scope="col">Measured</th>
          <th scope="col">Difference</th>
        </tr>
      </thead>
      <tbody>
        {ROWS.map(([name, words, format]) => (
          <Row key={name} words={words} format={format} forecast={model.forecast?.[name]} measured={model.measured?.[name]} />
        ))}
      </tbody>
    </table>
  );
}

interface RowProps {
  words: string;
  format: (value: number | null | undefined) => string;
  forecast: number | null | undefined;
  measured: number | null | undefined;
}

function Row({ words, format, forecast, measured }: RowProps) {
  const most = Math.max(forecast ?? 0, measured ?? 0) || 1;
  const off = forecast && measured != null ? measured / forecast - 1 : null;
  const width = (value: number | null | undefined) => ({ width: `${(100 * (value ?? 0)) / most}%` });
  return (
    <tr>
      <th scope="row">{words}</th>
      <td class="promise-bars" aria-hidden="true">
        <i class="is-forecast" style={width(forecast)} />
        <i class="is-measured" style={width(measured)} />
      </td>
      <td class="right number">
        <small>promised</small>
        {format(forecast)}
      </td>
      <td class="right number strong">
        <small>measured</small>
        {format(measured)}
      </td>
      <td class="right">
        {off === null ? <span class="tag">idle</span> : <span class={`tag ${Math.abs(off) <= NEAR ? "is-good" : "is-warm"}`}>{signed(off)}</span>}
      </td>
    </tr>
  );
}

function signed(off: number): string {
  return `${off < 0 ? "−" : "+"}${percent(Math.abs(off))}`;
}
