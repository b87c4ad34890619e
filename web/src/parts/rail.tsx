import { connection, status, type Connection } from "../state/live";
import { address, page, PAGES, TITLES } from "../state/route";
import { listShown } from "../state/shortcuts";
import { nextTheme, theme } from "../state/theme";
import { Icon } from "./icon";
import { Mark } from "./mark";

const CONNECTION: Record<Connection, string> = {
  connecting: "Connecting",
  live: "Live",
  lost: "Connection lost",
  locked: "Key needed",
};

/** Mark, navigation and switches: at the side, or on a phone above and below. */
export function Rail() {
  return (
    <header class="rail">
      <div class="brand">
        <Mark />
        <span class="wordmark">apportion</span>
      </div>
      <nav aria-label="Pages">
        {PAGES.map((name, index) => (
          <a key={name} href={address(name)} aria-current={page.value === name ? "page" : undefined} aria-keyshortcuts={String(index + 1)}>
            <Icon name={name} />
            <span>{TITLES[name]}</span>
            <Badge page={name} />
          </a>
        ))}
      </nav>
      <div class="rail-foot">
        <p class={`connection is-${connection.value}`}>
          <i aria-hidden="true" />
          <span>{CONNECTION[connection.value]}</span>
        </p>
        <div class="switches">
          <button class="quiet" onClick={nextTheme} aria-label={`Theme: ${theme.value}. Change`} title={`Theme: ${theme.value}`}>
            <Icon name={theme.value === "dark" ? "moon" : theme.value === "light" ? "sun" : "half"} />
            <span>{theme.value === "auto" ? "Auto" : theme.value === "dark" ? "Dark" : "Light"}</span>
          </button>
          <button class="quiet keys" onClick={() => (listShown.value = true)} aria-label="Keyboard shortcuts" title="Keyboard shortcuts">
            <Icon name="keys" />
          </button>
        </div>
        {status.value && <p class="version">{`version ${status.value.version}`}</p>}
      </div>
    </header>
  );
}

/** How many requests there are, where there are any. */
function Badge({ page: name }: { page: string }) {
  const number = name === "requests" ? status.value?.requests.length : 0;
  return number ? <b class="badge">{number}</b> : null;
}
