import { useRef, useState } from "preact/hooks";
import { say, stop } from "./asking";
import { busy } from "./conversation";

const HIGHEST = 240;

/** Where a person writes. Enter sends, Shift and Enter break the line. */
export function Composer() {
  const [text, type] = useState("");
  const area = useRef<HTMLTextAreaElement>(null);
  const send = () => {
    if (!text.trim() || busy.value) return;
    void say(text.trim());
    type("");
    area.current!.style.height = "";
  };
  const grow = (event: { currentTarget: HTMLTextAreaElement }) => {
    const { style, scrollHeight } = event.currentTarget;
    type(event.currentTarget.value);
    style.height = "auto";
    style.height = `${Math.min(HIGHEST, Math.max(scrollHeight, event.currentTarget.scrollHeight))}px`;
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.key === "Escape" && busy.value) stop();
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  };
  return (
    <form class="composer" onSubmit={(event) => (event.preventDefault(), send())}>
      <label class="hidden" for="message">
        Message
      </label>
      <textarea id="message" ref={area} rows={1} placeholder="Write a message" value={text} onInput={grow} onKeyDown={onKey} />
      {busy.value ? (
        <button type="button" class="primary" onClick={stop}>
          Stop
        </button>
      ) : (
        <button class="primary" disabled={!text.trim()}>
          Send
        </button>
      )}
    </form>
  );
}
