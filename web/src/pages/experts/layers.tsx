import type { Experts } from "../../api/types";
import { Card } from "../../parts/card";
import { count, percent } from "../../format";
import { allTotals, hitRate } from "./totals";

/** The same by layer, as a table that can be read aloud. */
export function Layers({ table }: { table: Experts }) {
  return (
    <Card title="By layer">
      <div class="scroller" tabIndex={0} role="region" aria-label="Experts by layer">
        <table class="layers">
          <thead>
            <tr>
              <th scope="col">Layer</th>
              <th scope="col">In memory</th>
              <th scope="col" class="right">
                Hits
              </th>
              <th scope="col" class="right">
                Misses
              </th>
              <th scope="col" class="right">
                Hit rate
              </th>
            </tr>
          </thead>
          <tbody>
            {allTotals(table).map((layer, index) => (
              <tr key={index}>
                <th scope="row" class="number">
                  {table.numbers[index]}
                </th>
                <td>
                  <div class="layer-bar">
                    <span class="number">{`${layer.resident} of ${layer.experts}`}</span>
                    <i aria-hidden="true">
                      <i style={{ width: percent(layer.resident / layer.experts) }} />
                    </i>
                  </div>
                </td>
                <td class="right number">{count(layer.hits)}</td>
                <td class="right number">{count(layer.misses)}</td>
                <td class="right number">{percent(hitRate(layer), 1)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Card>
  );
}
