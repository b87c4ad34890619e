import { listShown, SHORTCUTS, shortcutsOn, switchShortcuts } from "../state/shortcuts";
import { Dialog } from "./dialog";

export function ShortcutList() {
  const close = () => (listShown.value = false);
  return (
    <Dialog title="Keyboard shortcuts" open={listShown.value} onClose={close}>
      <dl class="shortcuts">
        {SHORTCUTS.map(([key, words]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{words}</dd>
          </div>
        ))}
      </dl>
      <label class="check">
        <input type="checkbox" checked={shortcutsOn.value} onChange={(event) => switchShortcuts(event.currentTarget.checked)} />
        <span>Single keys act</span>
      </label>
      <button class="primary" onClick={close}>
        Close
      </button>
    </Dialog>
  );
}
