import { useState } from "preact/hooks";
import { locked, refusals, useKey } from "../state/key";
import { Dialog } from "./dialog";

/** Asks for the API key when the server wants one. */
export function KeyDialog() {
  const [typed, type] = useState("");
  const offer = (event: Event) => {
    event.preventDefault();
    if (typed.trim()) useKey(typed.trim());
    type("");
  };
  return (
    <Dialog title="This server wants a key" open={locked.value}>
      <form onSubmit={offer}>
        <p id="key-words">
          {refusals.value ? "The server did not accept that key. " : ""}
          Type one of the keys that the server was started with. It stays in this tab and is forgotten when the tab closes.
        </p>
        <label class="field">
          <span>API key</span>
          <input
            type="password"
            autocomplete="off"
            spellcheck={false}
            autofocus
            required
            value={typed}
            aria-describedby="key-words"
            aria-invalid={refusals.value > 0}
            onInput={(event) => type(event.currentTarget.value)}
          />
        </label>
        <button class="primary">Use this key</button>
      </form>
    </Dialog>
  );
}
