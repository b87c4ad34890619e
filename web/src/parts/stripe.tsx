import { status } from "../state/live";
import { KINDS } from "../words";

/** The budget and its division as a hairline on top of every page; the overview tells it in words. */
export function Stripe() {
  const ram = status.value?.budget.ram;
  return (
    <div class="stripe" aria-hidden="true">
      {ram &&
        KINDS.map((kind) => {
          const width = `${(100 * (ram.kinds[kind] ?? 0)) / (ram.limit_bytes ?? ram.leased_bytes)}%`;
          return <i key={kind} class={`k-${kind}`} style={{ width }} />;
        })}
    </div>
  );
}
