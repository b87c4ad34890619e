import { status } from "../../state/live";
import { Awaiting } from "../../parts/awaiting";
import { Memory } from "./memory";
import { Models } from "./models";
import { Forecasts } from "./forecast";
import { Speed } from "./speed";
import { Stalls } from "./stalls";

export function Overview() {
  const now = status.value;
  if (!now) return <Awaiting title="Overview" />;
  return (
    <>
      <h1 class="hidden">Overview</h1>
      <Memory status={now} />
      <Speed status={now} />
      <div class="columns">
        <Forecasts models={now.models} />
        <Stalls />
      </div>
      <Models models={now.models} />
    </>
  );
}
