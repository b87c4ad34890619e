import { useEffect, useRef } from "preact/hooks";
import { KeyDialog } from "./parts/key-dialog";
import { Notices } from "./parts/notices";
import { Rail } from "./parts/rail";
import { ShortcutList } from "./parts/shortcut-list";
import { Stripe } from "./parts/stripe";
import { Chat } from "./pages/chat/chat";
import { Experts } from "./pages/experts/experts";
import { Overview } from "./pages/overview/overview";
import { Planner } from "./pages/planner/planner";
import { Requests } from "./pages/requests/requests";
import { page, TITLES, type Page } from "./state/route";
import { focusPage } from "./state/shortcuts";

const PAGE: Record<Page, () => preact.JSX.Element> = {
  overview: Overview,
  experts: Experts,
  requests: Requests,
  planner: Planner,
  chat: Chat,
};

export function App() {
  const main = useRef<HTMLElement>(null);
  const shown = page.value;
  const first = useRef(true);
  useEffect(() => {
    document.title = `${TITLES[shown]} · apportion`;
    if (!first.current) {
      scrollTo(0, 0);
      focusPage(main.current);
    }
    first.current = false;
  }, [shown]);
  const Shown = PAGE[shown];
  return (
    <>
      <a class="skip" href="#content" onClick={(event) => (event.preventDefault(), main.current?.focus())}>
        Skip to content
      </a>
      <Stripe />
      <div class="shell">
        <Rail />
        <main id="content" tabIndex={-1} ref={main} class={`page page-${shown}`}>
          <Notices />
          <Shown />
        </main>
      </div>
      <KeyDialog />
      <ShortcutList />
    </>
  );
}
