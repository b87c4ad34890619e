import type { Page } from "../state/route";

const PATHS: Record<Page | "sun" | "moon" | "half" | "keys" | "lock", string> = {
  overview: "M3 17V9h4v8zM8.5 17V3h4v14zM14 17v-6h3v6z",
  experts: "M3 3h4v4H3zM8 8h4v4H8zM13 3h4v4h-4zM3 13h4v4H3zM13 13h4v4h-4z",
  requests: "M3 4h9v2.5H3zM3 8.75h14v2.5H3zM3 13.5h6V16H3z",
  planner: "M3 5h6.2a2.5 2.5 0 0 1 4.6 0H17v2h-3.2a2.5 2.5 0 0 1-4.6 0H3zM3 13h1.2a2.5 2.5 0 0 1 4.6 0H17v2H8.8a2.5 2.5 0 0 1-4.6 0H3z",
  chat: "M3 4h14v10H9l-4 3.5V14H3z",
  sun: "M10 6a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM9 1h2v3H9zM9 16h2v3H9zM1 9h3v2H1zM16 9h3v2h-3zM3 4.4 4.4 3l2.1 2.1-1.4 1.4zM13.5 14.9l1.4-1.4L17 15.6 15.6 17zM3 15.6l2.1-2.1 1.4 1.4L4.4 17zM13.5 5.1 15.6 3 17 4.4l-2.1 2.1z",
  moon: "M8 2.2A8 8 0 1 0 17.8 12 6.5 6.5 0 0 1 8 2.2z",
  half: "M10 2a8 8 0 1 1 0 16 8 8 0 0 1 0-16zm0 2v12a6 6 0 0 0 0-12z",
  keys: "M2 5h16v10H2zM4 7v2h2V7zm4 0v2h2V7zm4 0v2h2V7zm3 0v2h1V7zM5 11v2h10v-2z",
  lock: "M5 9V6.5a5 5 0 0 1 10 0V9h1v9H4V9zm2.2 0h5.6V6.5a2.8 2.8 0 0 0-5.6 0z",
};

export function Icon({ name }: { name: keyof typeof PATHS }) {
  return (
    <svg class="icon" viewBox="0 0 20 20" aria-hidden="true">
      <path fill-rule="evenodd" d={PATHS[name]} />
    </svg>
  );
}
