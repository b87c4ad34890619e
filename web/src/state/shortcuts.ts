import { signal } from "@preact/signals";
import { go, PAGES, TITLES } from "./route";
import { nextTheme } from "./theme";

const NAME = "apportion.shortcuts";

/** Single keys act only while this is on: people who dictate or type with switches turn them off. */
export const shortcutsOn = signal(localStorage.getItem(NAME) !== "off");

/** Whether the list of shortcuts is shown. */
export const listShown = signal(false);

export const SHORTCUTS: [string, string][] = [
  ...PAGES.map((page, index): [string, string] => [String(index + 1), `Show ${TITLES[page]}`]),
  ["/", "Write in the chat"],
  ["t", "Change the theme: automatic, light, dark"],
  ["?", "Show or hide this list"],
];

export function switchShortcuts(on: boolean): void {
  shortcutsOn.value = on;
  localStorage.setItem(NAME, on ? "on" : "off");
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

function onKey(event: KeyboardEvent): void {
  if (!shortcutsOn.value || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if (document.querySelector("dialog[open]") && event.key !== "?") return;
  const page = PAGES[Number(event.key) - 1];
  if (page) go(page);
  else if (event.key === "t") nextTheme();
  else if (event.key === "?") listShown.value = !listShown.value;
  else if (event.key === "/") {
    go("chat");
    requestAnimationFrame(() => document.getElementById("message")?.focus());
  } else return;
  event.preventDefault();
}

export function listen(): void {
  addEventListener("keydown", onKey);
}
