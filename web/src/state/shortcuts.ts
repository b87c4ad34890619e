import { signal } from "@preact/signals";
import { go, page, PAGES, TITLES } from "./route";
import { nextTheme } from "./theme";

const NAME = "apportion.shortcuts";

/** Single keys act only while this is on: people who dictate or type with switches turn them off. */
export const shortcutsOn = signal(localStorage.getItem(NAME) !== "off");

/** Whether the list of shortcuts is shown. */
export const listShown = signal(false);

export const SHORTCUTS: [string, string][] = [
  ...PAGES.map((name, index): [string, string] => [String(index + 1), `Show ${TITLES[name]}`]),
  ["/", "Write in the chat"],
  ["t", "Change the theme: automatic, light, dark"],
  ["?", "Show or hide this list"],
];

export function switchShortcuts(on: boolean): void {
  shortcutsOn.value = on;
  localStorage.setItem(NAME, on ? "on" : "off");
}

/** Whether the next page shall begin where one writes and not at its top. */
let writesNext = false;

function write(): void {
  writesNext = true;
  if (page.value === "chat") focusPage(null);
  else go("chat");
}

/** Leads the focus to a page that was just shown: to its top, for readers, or to where one writes. */
export function focusPage(top: HTMLElement | null): void {
  const place = writesNext ? document.getElementById("message") : null;
  writesNext = false;
  (place ?? top)?.focus({ preventScroll: place === null });
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

function onKey(event: KeyboardEvent): void {
  if (!shortcutsOn.value || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if (document.querySelector("dialog[open]") && event.key !== "?") return;
  const chosen = PAGES[Number(event.key) - 1];
  if (chosen) go(chosen);
  else if (event.key === "t") nextTheme();
  else if (event.key === "?") listShown.value = !listShown.value;
  else if (event.key === "/") write();
  else return;
  event.preventDefault();
}

export function listen(): void {
  addEventListener("keydown", onKey);
}
