import type { ModelState } from "../api/types";
import { percent } from "../format";
import { connection, lostBecause, status } from "../state/live";
import { Meter } from "./meter";

/** What a person should know before reading figures: no connection, models that load or failed. */
export function Notices() {
  const models = status.value?.models ?? [];
  return (
    <div class="notices">
      <div role="status">
        {connection.value === "lost" && (
          <p class="notice is-bad">
            <b>Connection lost</b>
            <span>{lostBecause.value}. The figures are the last that came; trying again.</span>
          </p>
        )}
      </div>
      {status.value?.draining && <p class="notice is-warm">The server is stopping: it finishes what runs and takes nothing new.</p>}
      {models.filter((model) => model.state === "loading").map((model) => <Loading key={model.name} model={model} />)}
      {models
        .filter((model) => model.state === "failed")
        .map((model) => (
          <p key={model.name} class="notice is-bad">
            <b>{model.name}</b>
            <span>{`could not be loaded: ${model.error ?? "the server's log says why"}`}</span>
          </p>
        ))}
    </div>
  );
}

function Loading({ model }: { model: ModelState }) {
  return (
    <div class="notice">
      <b>{`Loading ${model.name}`}</b>
      <Meter label={`Loading ${model.name}`} share={model.progress} />
      <span class="number">{percent(model.progress)}</span>
    </div>
  );
}
