import { useEffect, useRef } from "preact/hooks";
import { status } from "../../state/live";
import { Awaiting } from "../../parts/awaiting";
import { Empty } from "../../parts/card";
import { Composer } from "./composer";
import { busy, exported, turns } from "./conversation";
import { set, settings } from "./settings";
import { SettingsPanel } from "./settings-panel";
import { TurnView } from "./turn";

const NEAR_END = 260; // pixels: an answer's last line and what stands below it

/** A conversation with a model that is served here. */
export function Chat() {
  const now = status.value;
  const models = now?.models.map((model) => model.name) ?? [];
  useEffect(() => {
    if (models[0] && !models.includes(settings.value.model)) set({ model: models[0] });
  }, [models.join()]);
  if (!now) return <Awaiting title="Chat" />;
  return (
    <>
      <div class="chat-head">
        <h1>Chat</h1>
        <span class="chat-acts">
          <button class="quiet" disabled={!turns.value.length} onClick={save}>
            Export
          </button>
          <button class="quiet" disabled={!turns.value.length || busy.value} onClick={() => (turns.value = [])}>
            Clear
          </button>
        </span>
      </div>
      <div class="chat">
        <div class="chat-main">
          <Turns />
          <Composer />
        </div>
        <SettingsPanel />
      </div>
    </>
  );
}

function Turns() {
  const end = useRef<HTMLDivElement>(null);
  const said = turns.value;
  useEffect(() => {
    const left = document.documentElement.scrollHeight - scrollY - innerHeight;
    // Whoever has scrolled back to read is left where they are.
    if (left < NEAR_END || said.at(-1)?.state === "waiting") end.current?.scrollIntoView({ block: "end" });
  }, [said]);
  if (!said.length) {
    return <Empty title="Nothing said yet">What you write goes to this server and stays in this page's memory, nowhere else.</Empty>;
  }
  return (
    <>
      <ol class="turns" aria-label="Conversation">
        {said.map((turn, index) => (
          <TurnView key={turn.id} turn={turn} isLast={index === said.length - 1} />
        ))}
      </ol>
      <p role="status" class="hidden">
        {busy.value ? "The model answers" : "The answer is complete"}
      </p>
      <div ref={end} class="turns-end" />
    </>
  );
}

function save(): void {
  const address = URL.createObjectURL(new Blob([exported(settings.value.system)], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = "conversation.json";
  link.click();
  URL.revokeObjectURL(address);
}
