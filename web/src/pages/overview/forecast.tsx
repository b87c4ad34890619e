import type { ModelState, SpeedName } from "../../api/types";
import { Card, Empty } from "../../parts/card";
import { duration, percent, rate } from "../../format";

interface Figure {
  name: SpeedName;
  words: string;
  format: (value: number | null | undefined) => string;
}

const FIGURES: Figure[] = [
  { name: "decode_tok_s", words: "Decode", format: rate },
  { name: "prefill_tok_s", words: "Prefill", format: rate },
  { name: "ttft_s", words: "First token", format: duration },
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
        {FIGURES.map((figure) => (
          <Row key={figure.name} figure={figure} model={model} />
        ))}
      </tbody>
    </table>
  );
}

function Row({ figure: { name, words, format }, model }: { figure: Figure; model: ModelState }) {
  const forecast = model.forecast?.[name];
  const measured = model.measured[name];
  const prompt = model.plan?.forecast.prompt_tokens;
  const most = Math.max(forecast ?? 0, measured ?? 0) || 1;
  const off = forecast && measured != null ? measured / forecast - 1 : null;
  const width = (value: number | null | undefined) => ({ width: `${(100 * (value ?? 0)) / most}%` });
  return (
    <tr>
      <th scope="row">
        {words}
        {name === "ttft_s" && prompt && <small>{`promised after ${prompt}`}</small>}
      </th>
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
        <Difference off={off} comparable={name !== "ttft_s"} />
      </td>
    </tr>
  );
}

/** How far off the promise was. A time to the first token was promised for a prompt of another length. */
function Difference({ off, comparable }: { off: number | null; comparable: boolean }) {
  if (off === null) return <span class="tag">no sample</span>;
  const tone = !comparable ? "" : Math.abs(off) <= NEAR ? "is-good" : "is-warm";
  return <span class={`tag ${tone}`}>{signed(off)}</span>;
}

function signed(off: number): string {
  return `${off < 0 ? "−" : "+"}${percent(Math.abs(off))}`;
}
