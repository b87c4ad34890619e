import { Card, Empty } from "../../parts/card";
import { span_s, SPANS } from "../../parts/chart";
import { Meter } from "../../parts/meter";
import { age, duration, percent } from "../../format";
import { history, samples } from "../../state/live";
import { stallWords } from "../../words";

/** What computing waited for, over the same span as the charts. */
export function Stalls() {
  void samples.value;
  const causes = Object.entries(history.stalledWithin(span_s.value)).sort((a, b) => b[1] - a[1]);
  const began = history.times.find((time) => time >= (history.times.at(-1) ?? 0) - span_s.value) ?? 0;
  const seen_s = Math.max(1, (history.times.at(-1) ?? 0) - began);
  const waited = causes.some(([, seconds]) => seconds > 0);
  return (
    <Card title="What it waited for" aside={<span class="aside">{`last ${spanWords(seen_s)}`}</span>}>
      {waited ? (
        <ul class="stalls">
          {causes.map(([cause, seconds]) => (
            <li key={cause}>
              <span>{stallWords(cause)}</span>
              <Meter label={stallWords(cause)} share={seconds / seen_s} words={duration(seconds)} />
              <b class="number">{seconds ? duration(seconds) : "0 s"}</b>
              <span class="number share">{percent(seconds / seen_s)}</span>
            </li>
          ))}
        </ul>
      ) : (
        <Empty title="Nothing was waited for">Everything that was needed was in memory.</Empty>
      )}
    </Card>
  );
}

/** The span that was chosen, or what has been seen of it so far. */
function spanWords(seen_s: number): string {
  const chosen = SPANS.find(([seconds]) => seconds === span_s.value);
  return chosen && seen_s >= chosen[0] * 0.95 ? chosen[1] : age(seen_s);
}
