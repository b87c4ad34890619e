import { effect, signal } from "@preact/signals";

const NAME = "apportion.theme";
export const THEMES = ["auto", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

const stored = localStorage.getItem(NAME) as Theme | null;
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const systemIsDark = signal(systemDark.matches);
systemDark.addEventListener("change", (event) => (systemIsDark.value = event.matches));

export const theme = signal<Theme>(stored && THEMES.includes(stored) ? stored : "auto");

/** Changes whenever colours do; what draws on a canvas depends on it. */
export const isDark = signal(false);

effect(() => {
  const chosen = theme.value;
  isDark.value = chosen === "auto" ? systemIsDark.value : chosen === "dark";
  if (chosen === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  localStorage.setItem(NAME, chosen);
});

export function nextTheme(): void {
  theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length]!;
}
