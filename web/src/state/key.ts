import { signal } from "@preact/signals";

const NAME = "apportion.key";

/** The API key; kept until the tab closes, never longer. */
export const key = signal(sessionStorage.getItem(NAME) ?? "");

/** Whether the server wants a key, or another one. */
export const locked = signal(false);

/** How many keys were refused, so that the dialog can say that one was wrong. */
export const refusals = signal(0);

export function refused(): void {
  if (key.value) refusals.value += 1;
  locked.value = true;
}

export function useKey(typed: string): void {
  sessionStorage.setItem(NAME, typed);
  key.value = typed;
  locked.value = false;
}

export function forgetKey(): void {
  sessionStorage.removeItem(NAME);
  key.value = "";
}
