import type { DiskTier, Plan, RamTier, Status } from "../../api/types";
import { Card } from "../../parts/card";
import { Division, lit, type Mark } from "../../parts/division";
import { Meter } from "../../parts/meter";
import { bytes, byteParts, percent, UNKNOWN } from "../../format";
import { KIND_MEANINGS, KIND_NAMES, KINDS } from "../../words";

/** Where the memory went: the centre of the page. */
export function Memory({ status }: { status: Status }) {
  const { ram, disk } = status.budget;
  const loaded = status.models.filter((model) => model.state === "loaded" && model.plan);
  return (
    <Card title="Where the memory went" class="memory">
      <Headline ram={ram} isLoaded={status.models.some((model) => model.state === "loaded")} />
      <Division shares={ram.kinds} limit={ram.limit_bytes} marks={marksOf(ram)} label="Memory" />
      <Kinds ram={ram} plan={loaded.length === 1 ? loaded[0]!.plan : null} />
      {disk.limit_bytes > 0 && <Disk disk={disk} />}
    </Card>
  );
}

function marksOf(ram: RamTier): Mark[] {
  return [
    { words: "Peak", at: ram.peak_rss_bytes, tone: "peak" },
    { words: "In use now", at: ram.rss_bytes, tone: "rss" },
  ];
}

function Headline({ ram, isLoaded }: { ram: RamTier; isLoaded: boolean }) {
  const [number, unit] = byteParts(ram.leased_bytes);
  const limit = ram.limit_bytes;
  const over = limit !== null && ram.peak_rss_bytes > limit;
  return (
    <div class="headline">
      <p class="headline-main">
        <b>{number}</b> {unit} <span>{limit === null ? `taken; ${isLoaded ? "no budget was stated" : "no model is loaded"}` : `of ${bytes(limit)} apportioned`}</span>
      </p>
      <dl class="headline-facts">
        <div>
          <dt>
            <i class="key-rss" aria-hidden="true" />
            In use now
          </dt>
          <dd>{bytes(ram.rss_bytes)}</dd>
        </div>
        <div>
          <dt>
            <i class="key-peak" aria-hidden="true" />
            Peak
          </dt>
          <dd class={over ? "is-bad" : ""}>{bytes(ram.peak_rss_bytes)}</dd>
        </div>
        {limit !== null && (
          <div>
            <dt>
              <i class="key-limit" aria-hidden="true" />
              Limit
            </dt>
            <dd>{bytes(limit)}</dd>
          </div>
        )}
      </dl>
    </div>
  );
}

function Kinds({ ram, plan }: { ram: RamTier; plan: Plan | null }) {
  const whole = ram.limit_bytes ?? ram.leased_bytes;
  const free = Math.max(0, whole - ram.leased_bytes);
  const shown = KINDS.filter((kind) => ram.kinds[kind] || plan?.bytes[kind]);
  return (
    <table class="kinds">
      <caption class="hidden">Memory by kind</caption>
      <thead>
        <tr>
          <th scope="col">Kind</th>
          <th scope="col" class="meaning">
            What it is for
          </th>
          {plan && (
            <th scope="col" class="right planned">
              Planned
            </th>
          )}
          <th scope="col" class="right">
            Now
          </th>
          <th scope="col" class="right">
            Share
          </th>
        </tr>
      </thead>
      <tbody>
        {shown.map((kind) => (
          <tr
            key={kind}
            class={lit.value === kind ? "is-lit" : ""}
            onPointerEnter={() => (lit.value = kind)}
            onPointerLeave={() => (lit.value = null)}
          >
            <th scope="row">
              <i class={`swatch k-${kind}`} aria-hidden="true" />
              {KIND_NAMES[kind]}
            </th>
            <td class="meaning">{KIND_MEANINGS[kind]}</td>
            {plan && <td class="right number planned">{plan.bytes[kind] ? bytes(plan.bytes[kind]) : UNKNOWN}</td>}
            <td class="right number strong">{bytes(ram.kinds[kind] ?? 0)}</td>
            <td class="right number">{percent((ram.kinds[kind] ?? 0) / whole, 1)}</td>
          </tr>
        ))}
        {free > 0 && (
          <tr>
            <th scope="row">
              <i class="swatch k-free" aria-hidden="true" />
              Not spoken for
            </th>
            <td class="meaning">left of the limit</td>
            {plan && <td class="planned" />}
            <td class="right number strong">{bytes(free)}</td>
            <td class="right number">{percent(free / whole, 1)}</td>
          </tr>
        )}
      </tbody>
    </table>
  );
}

function Disk({ disk }: { disk: DiskTier }) {
  const words = `${bytes(disk.used_bytes)} of ${bytes(disk.limit_bytes)}`;
  return (
    <div class="disk">
      <h3>Kept on disk</h3>
      <Meter label="Kept on disk" share={disk.used_bytes / disk.limit_bytes} words={words} />
      <p class="number">{words}</p>
    </div>
  );
}
