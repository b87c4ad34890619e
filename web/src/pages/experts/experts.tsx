import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { get } from "../../api/client";
import { inWords, wasAborted } from "../../api/errors";
import type { Experts as Table, ModelState } from "../../api/types";
import { Awaiting } from "../../parts/awaiting";
import { Card, Empty } from "../../parts/card";
import { Choice } from "../../parts/choice";
import { connection, status } from "../../state/live";
import { HeatMap, MODES, type Mode } from "./heat-map";
import { Layers } from "./layers";
import { Summary } from "./summary";

const EVERY_MS = 2000;

const mode = signal<Mode>("resident");
const chosen = signal<string | null>(null);

/** Which experts are in memory, and which are asked for. */
export function Experts() {
  const now = status.value;
  if (!now) return <Awaiting title="Experts" />;
  const mixtures = now.models.filter((model) => model.experts);
  const model = mixtures.find((one) => one.name === chosen.value) ?? mixtures[0];
  return (
    <>
      <h1>Experts</h1>
      {model ? (
        <Mixture model={model} others={mixtures} />
      ) : (
        <Empty title="No mixture of experts is loaded">
          A dense model needs all of its weights for every token, so there is nothing to choose between. Memory by kind is on the overview.
        </Empty>
      )}
    </>
  );
}

function Mixture({ model, others }: { model: ModelState; others: ModelState[] }) {
  const { table, problem } = useTable(model.name);
  return (
    <>
      {others.length > 1 && (
        <label class="field inline">
          <span>Model</span>
          <select value={model.name} onChange={(event) => (chosen.value = event.currentTarget.value)}>
            {others.map(({ name }) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
      )}
      {problem && <p class="notice is-bad">{problem}</p>}
      {table && (
        <>
          <Summary table={table} name={model.name} />
          <Card title="Layers and experts" aside={<Choice label="What is shown" options={MODES} chosen={mode.value} onChoose={(next) => (mode.value = next)} />}>
            <HeatMap table={table} mode={mode.value} />
          </Card>
          <Layers table={table} />
        </>
      )}
      {!table && !problem && <Empty title="Waiting for the table" />}
    </>
  );
}

/** The newest table, asked for again and again while the page shows and the server answers. */
function useTable(name: string): { table: Table | null; problem: string } {
  const [table, setTable] = useState<Table | null>(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    setTable(null);
    const leave = new AbortController();
    const ask = async () => {
      if (document.hidden || connection.value === "locked") return;
      try {
        setTable(await get<Table>(`v1/apportion/experts?model=${encodeURIComponent(name)}`, leave.signal));
        setProblem("");
      } catch (error) {
        if (!wasAborted(error)) setProblem(inWords(error));
      }
    };
    void ask();
    const timer = setInterval(() => void ask(), EVERY_MS);
    return () => (clearInterval(timer), leave.abort());
  }, [name]);
  return { table, problem };
}
