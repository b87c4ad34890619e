import type { Experts } from "../../api/types";
import { count, percent } from "../../format";
import { allTotals, hitRate, skew, sum } from "./totals";

/** The table in a few figures and a sentence. */
export function Summary({ table, name }: { table: Experts; name: string }) {
  const layers = allTotals(table);
  const resident = sum(layers.map((layer) => layer.resident));
  const hits = sum(layers.map((layer) => layer.hits));
  const misses = sum(layers.map((layer) => layer.misses));
  const all = table.layers * table.experts;
  const few = skew(table);
  return (
    <>
      <dl class="figures">
        <Figure words="In memory" value={`${count(resident)} of ${count(all)}`} small={percent(resident / all)} />
        <Figure words="Hit rate" value={percent(hitRate({ hits, misses }), 1)} small="found in memory" />
        <Figure words="Hits" value={count(hits)} />
        <Figure words="Misses" value={count(misses)} small="read from disk" />
      </dl>
      <p class="lead">
        {`${name} has ${count(table.layers)} layers of ${count(table.experts)} experts. `}
        {few !== null && `The busiest tenth of each layer's experts gets ${percent(few)} of the uses; 10% would be even.`}
      </p>
    </>
  );
}

export function Figure({ words, value, small }: { words: string; value: string; small?: string | undefined }) {
  return (
    <div class="figure">
      <dt>{words}</dt>
      <dd>
        <b>{value}</b>
        {small && <small>{small}</small>}
      </dd>
    </div>
  );
}
