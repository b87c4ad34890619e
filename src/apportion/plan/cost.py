"""The cost model: how long a decode step, a prompt and loading take, from bytes, operations and the machine's
rates. A roofline for each product, and two clocks, of computing and of the disk, for what overlaps.

What a step waits for:

    dense part of a layer that streams    its read, which began as soon as a buffer and the disk were free
    experts that are hits                 nothing: they are computed while the misses are read
    experts that are misses               the read of each, one after the other, once the router has spoken
    rows that lie as files have them      their rearranging into panels, once they are read

A disk is slower beside threads that compute than while they wait for it; each read is reckoned with both.

Misses are independent draws: each of a token's experts is a hit with the layer's rate, and the time is the
mean over how many of them miss.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import comb, prod

from apportion.formats.panels import has_panels
from apportion.models.config import ModelConfig
from apportion.models.footprint import kv_bytes_seen
from apportion.models.layout import layer_slots
from apportion.models.units import LayerUnits, ModelUnits, Unit
from apportion.plan.arrangement import Arrangement
from apportion.plan.crowd import READ_AHEAD_NBYTES, is_crowd, num_leaving, read_slots
from apportion.plan.efficiency import Products
from apportion.plan.hit_rate import HitRates
from apportion.plan.machine import Machine

# Constants that were measured on the machine of docs/benchmarks.md.
LAYER_S = 30e-6  # of a layer beside its products: norms, attention's small parts, threads that meet
LOOKUP_S = 20e-6  # more where experts are looked up
MISS_S = 350e-6  # more where one of them is not there: Python hands reads over, threads and caches get cold
STEP_S = 250e-6  # of a step: sampling, the token's text, Python
START_S = 0.4  # until the first weight is read: imports, header, tokenizer
KV_SHARE = 0.6  # of the streamed bandwidth that attention over a long context reaches
ATTENTION_SHARE = 0.45  # of the peak of f32 that attention reaches in prefill
ROW_NBYTES = 4096  # a row of the embedding comes with the page that it lies in


@dataclass(slots=True)
class Clocks:
    """Seconds: when computing and the disk are done with what they were given, and when each of the buffers
    for dense parts is free again."""

    compute: float
    disk: float
    buffers: list[float]


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What a layer has to read and to compute.

    Attributes:
        dense_reads, expert_reads: bytes of a read, and how many bring the unit.
        dense_arranged, expert_arranged: bytes that become panels once they are read.
    """

    dense: Products
    dense_reads: tuple[float, int]
    dense_arranged: int
    expert: Products
    expert_reads: tuple[float, int]
    expert_arranged: int
    num_experts: int


class CostModel:
    """Seconds of one model on one machine."""

    def __init__(self, config: ModelConfig, units: ModelUnits, machine: Machine, hits: HitRates) -> None:
        self._config = config
        self._units = units
        self._machine = machine
        self._hits = hits
        self._layers = [_layer_cost(config, layer) for layer in units.layers]

    def hit_rate(self, plan: Arrangement) -> float:
        """Share of routed experts that are found in their slots; 1 for a model without experts."""
        counts = [layer.num_experts for layer in self._layers]
        rates = [
            self._hits.rate(layer, slots, count)
            for layer, (slots, count) in enumerate(zip(plan.expert_slots, counts, strict=True))
            if count
        ]
        return sum(rates) / len(rates) if rates else 1.0

    def disk_nbytes_per_token(self, plan: Arrangement) -> int:
        """Bytes that a decode step reads on average."""
        total = float(ROW_NBYTES if plan.embedding == "rows" else 0)
        for layer, cost in enumerate(self._layers):
            if layer in plan.streamed_layers:
                total += cost.dense_reads[0] * cost.dense_reads[1]
            misses = self._top_k * (1 - self._rate(plan, layer)) if cost.num_experts else 0.0
            total += misses * cost.expert_reads[0] * cost.expert_reads[1]
        return round(total)

    def decode_s(self, plan: Arrangement, depth: int) -> float:
        """Of a decode step that sees `depth` positions, once buffers and clocks have settled."""
        clocks = Clocks(0.0, 0.0, [0.0] * max(1, plan.stream_buffers))
        ended = 0.0
        for _ in range(3 if plan.streamed_layers else 1):
            began = clocks.compute
            self._decode(plan, depth, clocks)
            ended = clocks.compute - began
        return ended

    def together_s(self, plan: Arrangement, depth: int, sequences: int) -> float:
        """Of a step in which so many sequences decode, each at `depth` positions: their tokens pass a layer
        together, and slots are shared among what all of them use.
        """
        if sequences == 1:
            return self.decode_s(plan, depth)
        clocks = Clocks(0.0, 0.0, [0.0] * max(1, plan.stream_buffers))
        cached = sequences * kv_bytes_seen(self._config, depth, plan.kv) / len(self._layers)
        ended = 0.0
        for _ in range(3 if plan.streamed_layers else 1):
            began = clocks.compute
            clocks.compute += self._rows_s(plan, sequences)
            for layer, cost in enumerate(self._layers):
                dense_s = cost.dense.seconds(self._machine, sequences)
                dense_s += cached / (self._machine.memory * KV_SHARE) + LAYER_S
                self._dense(plan, layer, dense_s, clocks)
                if cost.num_experts:
                    self._shared(plan, layer, sequences, clocks)
            clocks.compute += sequences * self._head_s + STEP_S
            ended = clocks.compute - began
        return ended

    def prefill_s(self, plan: Arrangement, tokens: int, *, cold: bool = False) -> float:
        """Of reading a prompt: layer by layer all of it, or in runs of `tokens_per_pass`.

        Args:
            cold: no slot is filled yet.
        """
        clocks = Clocks(0.0, 0.0, [0.0] * max(1, plan.stream_buffers))
        step = tokens if plan.prefill == "layer_major" else plan.tokens_per_pass
        for start in range(0, tokens, step):
            self._prefill(plan, start, min(step, tokens - start), clocks, cold=cold and not start)
        return clocks.compute + self._head_s + STEP_S

    def load_s(self, plan: Arrangement) -> float:
        """Of loading what stays in memory; slots are filled later, as experts are needed."""
        return START_S + plan.loaded_nbytes / self._machine.disk.best

    @cached_property
    def _head_s(self) -> float:
        units, config = self._units, self._config
        tied = not units.head_nbytes
        unit = units.embedding if tied else units.head
        nbytes = units.embedding_nbytes if tied else units.head_nbytes
        head = Products.of(unit, nbytes, config.vocab_size * config.hidden_size)
        return head.seconds(self._machine)

    @property
    def _top_k(self) -> int:
        return 0 if self._config.experts is None else self._config.experts.routing.top_k

    def _rate(self, plan: Arrangement, layer: int) -> float:
        return self._hits.rate(layer, plan.expert_slots[layer], self._layers[layer].num_experts)

    def _rows_s(self, plan: Arrangement, rows: int) -> float:
        return self._machine.disk.seconds(ROW_NBYTES, rows, beside=False) if plan.embedding == "rows" else 0.0

    def _decode(self, plan: Arrangement, depth: int, clocks: Clocks) -> None:
        machine = self._machine
        cached = kv_bytes_seen(self._config, depth, plan.kv) / len(self._layers)
        clocks.compute += self._rows_s(plan, 1)
        for layer, cost in enumerate(self._layers):
            dense_s = cost.dense.seconds(machine) + cached / (machine.memory * KV_SHARE) + LAYER_S
            self._dense(plan, layer, dense_s, clocks)
            if cost.num_experts:
                self._routed(plan, layer, clocks)
        clocks.compute += self._head_s + STEP_S

    def _dense(self, plan: Arrangement, layer: int, seconds: float, clocks: Clocks) -> None:
        """Compute a dense part; where it streams, after its read, begun when disk and a buffer were free."""
        cost = self._layers[layer]
        if layer not in plan.streamed_layers:
            clocks.compute += seconds
            return
        nbytes, count = cost.dense_reads
        begin = max(clocks.disk, clocks.buffers.pop(0))
        meanwhile = seconds * len(self._layers) / len(plan.streamed_layers)
        clocks.disk = begin + self._machine.disk.seconds_while(meanwhile, nbytes, count)
        clocks.compute = max(clocks.compute, clocks.disk) + self._arranging_s(cost.dense_arranged) + seconds
        clocks.buffers.append(clocks.compute)

    def _routed(self, plan: Arrangement, layer: int, clocks: Clocks) -> None:
        """Compute a token's experts, hits while misses are read; the mean over how many miss."""
        cost, k = self._layers[layer], self._top_k
        rate = self._rate(plan, layer)
        each = cost.expert.seconds(self._machine)
        mean = 0.0
        for misses in range(k + 1):
            chance = comb(k, misses) * (1 - rate) ** misses * rate ** (k - misses)
            mean += chance * self._experts_s(cost, k, misses, each) if chance else 0.0
        nbytes, count = cost.expert_reads
        reading = self._machine.disk.seconds_while(k * rate * each, nbytes, k * (1 - rate) * count)
        if reading:
            clocks.disk = max(clocks.disk, clocks.compute) + reading
        clocks.compute += mean + (LOOKUP_S if plan.expert_slots[layer] < cost.num_experts else 0.0)

    def _shared(self, plan: Arrangement, layer: int, sequences: int, clocks: Clocks) -> None:
        """Compute the experts of several sequences' tokens, each once, while those that miss are read. A
        sequence finds what its share of the slots would hold for it alone, or what all of them hold if every
        expert is as likely as any other; room for reading is made first.
        """
        cost, slots = self._layers[layer], plan.expert_slots[layer]
        chosen = cost.num_experts * (1 - (1 - self._top_k / cost.num_experts) ** sequences)
        computing = chosen * cost.expert.seconds(self._machine, sequences * self._top_k / chosen)
        if slots >= cost.num_experts:
            clocks.compute += computing
            return
        own = self._hits.rate(layer, max(1, slots // sequences), cost.num_experts)
        hits = min(slots, chosen * max(own, slots / cost.num_experts))
        misses = chosen - hits + self._leaving(layer, slots, chosen, hits)
        computing += misses * self._arranging_s(cost.expert_arranged)
        nbytes, count = cost.expert_reads
        reading = self._machine.disk.seconds_while(computing, nbytes, misses * count)
        clocks.disk = max(clocks.disk, clocks.compute) + reading
        clocks.compute = max(clocks.compute + computing, clocks.disk + computing / chosen)
        clocks.compute += LOOKUP_S + (MISS_S if misses else 0.0)

    def _experts_s(self, cost: LayerCost, k: int, misses: int, each: float) -> float:
        """Of a token's experts with so many misses: each is computed once its read is done."""
        if not misses:
            return k * each
        nbytes, count = cost.expert_reads
        hits_s, missed_s = (k - misses) * each, self._arranging_s(cost.expert_arranged) + each
        reading = self._machine.disk.seconds_while(hits_s, nbytes, misses * count)
        # The last to wait for is either the computing of all, or the first read and all misses, or all reads.
        return MISS_S + max(
            hits_s + misses * missed_s, reading / misses + misses * missed_s, reading + missed_s
        )

    def _arranging_s(self, nbytes: int) -> float:
        """Of rearranging rows in their place: they are read and written once."""
        return 2 * nbytes / self._machine.memory

    def _prefill(self, plan: Arrangement, start: int, tokens: int, clocks: Clocks, cold: bool) -> None:
        """A run of the prompt through all layers."""
        clocks.compute += self._rows_s(plan, tokens)
        for layer, cost in enumerate(self._layers):
            whole, rest = divmod(tokens, plan.tokens_per_pass)
            products = whole * cost.dense.seconds(self._machine, plan.tokens_per_pass)
            products += cost.dense.seconds(self._machine, rest) if rest else 0.0
            seconds = products + self._attention_s(layer, start, tokens) + LAYER_S * (whole + bool(rest))
            self._dense(plan, layer, seconds, clocks)
            if cost.num_experts:
                self._touched(layer, plan.expert_slots[layer], tokens, clocks, cold)

    def _touched(self, layer: int, slots: int, tokens: int, clocks: Clocks, cold: bool) -> None:
        """The experts that the tokens touch, each once: those that are there while the others are read."""
        cost = self._layers[layer]
        touched = self._distinct(layer, tokens)
        computing = touched * cost.expert.seconds(self._machine, tokens * self._top_k / touched)
        expected = layer > 0 and is_crowd(round(touched), cost.num_experts)
        held = 0.0 if cold and slots < cost.num_experts else float(slots)
        if expected:  # room is made before the router has spoken
            held -= self._leaving(layer, slots, cost.num_experts, held)
        hits = touched - min(touched, self._distinct(layer, tokens, held) - held)
        hits -= self._leaving(layer, slots, touched, hits)
        read = touched - hits
        if read <= 0:
            clocks.compute += computing
            return
        nbytes, count = cost.expert_reads
        disk = self._machine.disk
        computing += read * self._arranging_s(cost.expert_arranged)
        reading = disk.seconds_while(computing, nbytes, read * count)
        ahead = reading * min(1.0, READ_AHEAD_NBYTES / (read * count * nbytes)) if expected else 0.0
        clocks.disk = max(clocks.disk, clocks.compute - ahead) + reading
        # Those in slots, or the first that comes, begin; the last that comes ends.
        wait = 0.0 if hits or expected else disk.seconds(nbytes, count, beside=True)
        clocks.compute = max(clocks.compute + wait + computing, clocks.disk + computing / touched)

    def _leaving(self, layer: int, slots: int, needed: float, hits: float) -> float:
        """Experts of those needed that make way for others, to be read anew."""
        return num_leaving(slots, read_slots(slots, self._units.layers[layer].expert_nbytes), needed, hits)

    def _distinct(self, layer: int, tokens: int, found: float = 0.0) -> float:
        """Experts that so many tokens touch, and the `found` ones touched before them: each token adds those
        that a cache of all before it would miss (P. J. Denning, "The Working Set Model for Program Behavior",
        Communications of the ACM 11(5), 1968).
        """
        count, seen = self._layers[layer].num_experts, 0
        while seen < tokens:
            step = min(max(1, seen // 16), tokens - seen)
            whole = int(found)
            low, high = (self._hits.rate(layer, slots, count) for slots in (whole, whole + 1))
            missed = 1 - low - (high - low) * (found - whole)
            found = min(count, found + step * self._top_k * missed)
            seen += step
        return found

    def _attention_s(self, layer: int, start: int, tokens: int) -> float:
        """Of scores and weighted values of `tokens` positions from `start` on."""
        config = self._config
        window = config.windows[layer]
        seen = _seen(start + tokens, window) - _seen(start, window)
        ops = 2 * seen * config.num_heads * (config.head_dim + config.value_dim)
        return ops / (self._machine.f32 * ATTENTION_SHARE)


def _seen(positions: int, window: int) -> int:
    """Positions that the first tokens see, all together; each at most `window` of them (0: all)."""
    growing = min(positions, window) if window else positions
    return growing * (growing + 1) // 2 + (positions - growing) * window


def _layer_cost(config: ModelConfig, units: LayerUnits) -> LayerCost:
    dense = experts = 0
    for slot in layer_slots(config, units.layer):
        if slot.kind == "matrix":
            if "_exps." in slot.name:
                experts += prod(slot.shape[1:])
            else:
                dense += prod(slot.shape)
    expert = units.experts[0] if units.experts else None
    return LayerCost(
        dense=Products.of(units.dense, units.dense_nbytes, dense),
        dense_reads=_reads(units.dense_nbytes, len(units.dense.stretches) if units.dense else 1),
        dense_arranged=_arranged_nbytes(units.dense),
        expert=Products.of(expert, units.expert_nbytes, experts),
        expert_reads=_reads(units.expert_nbytes, len(expert.stretches) if expert else 1),
        expert_arranged=_arranged_nbytes(expert),
        num_experts=units.num_experts,
    )


def _reads(nbytes: int, count: int) -> tuple[float, int]:
    return nbytes / count, count


def _arranged_nbytes(unit: Unit | None) -> int:
    members = unit.members if unit is not None else ()
    return sum(one.nbytes for one in members if not one.interleaved and has_panels(one.format, one.shape[-2]))
