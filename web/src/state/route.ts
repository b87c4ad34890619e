import { computed, signal } from "@preact/signals";

export const PAGES = ["overview", "experts", "requests", "planner", "chat"] as const;
export type Page = (typeof PAGES)[number];

export const TITLES: Record<Page, string> = {
  overview: "Overview",
  experts: "Experts",
  requests: "Requests",
  planner: "Planner",
  chat: "Chat",
};

const hash = signal(location.hash);
addEventListener("hashchange", () => (hash.value = location.hash));

export const page = computed<Page>(() => {
  const name = hash.value.replace(/^#\/?/, "").split("?")[0] as Page;
  return PAGES.includes(name) ? name : "overview";
});

export function address(to: Page): string {
  return `#/${to}`;
}

export function go(to: Page): void {
  location.hash = address(to);
}
