"""A plan: how one budget of memory is divided for one model, and what to expect of it.

A plan has two halves. Its choices (context, slots, what streams, policies) are what the engine carries out;
the rest (bytes by kind, hit rate, forecast, advice) follows from them, and is there to be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from apportion.core.claim import Kind
from apportion.core.errors import UsageError
from apportion.policies import EXPERT_CACHES, LOAD_ORDERS, PLACEMENTS, PREDICTIONS, RETENTIONS, SCHEDULERS

VERSION = 2
MIN_SLOTS = 2  # of a layer: one is read into while the other is computed with
STREAM_BUFFERS = 2  # the same for layers that stream

Embedding: TypeAlias = Literal["resident", "rows"]
PrefillOrder: TypeAlias = Literal["layer_major", "chunked"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A forecast figure, and the range that it lies in as the disk's rate drifts."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        assert self.low <= self.value <= self.high, self


@dataclass(frozen=True, slots=True)
class Forecast:
    """How fast it will be.

    Attributes:
        prefill_tok_s: of a prompt after others: slots are filled.
        ttft_s: from a loaded model to the first token of the answer to its first prompt: slots are empty.
        prompt_tokens: length of the prompt that both are for.
        load_s: from the start of loading until a prompt can be read.
        basis: which rates of the machine it is reckoned with.
    """

    decode_tok_s: Estimate
    prefill_tok_s: Estimate
    ttft_s: Estimate
    load_s: Estimate
    prompt_tokens: int
    basis: str


@dataclass(frozen=True, slots=True)
class PolicyNames:
    """Which policy decides what, with its parameters as in `lfu_aged:half_life=64`; the baselines unless
    chosen.
    """

    placement: str = PLACEMENTS.baseline
    expert_cache: str = EXPERT_CACHES.baseline
    prediction: str = PREDICTIONS.baseline
    load_order: str = LOAD_ORDERS.baseline
    scheduler: str = "auto"
    retention: str = RETENTIONS.baseline

    def require_known(self) -> None:
        """
        Raises:
            NotFound: there is no policy of a name; the hint names the closest.
            UsageError: a policy has no such parameter.
        """
        PLACEMENTS.choose(self.placement)
        EXPERT_CACHES.choose(self.expert_cache)
        PREDICTIONS.choose(self.prediction)
        LOAD_ORDERS.choose(self.load_order)
        RETENTIONS.choose(self.retention)
        if self.scheduler != "auto":
            SCHEDULERS.choose(self.scheduler)


@dataclass(frozen=True, slots=True)
class Plan:
    """The apportionment of `ram` bytes.

    Attributes:
        model: the model's name, for people.
        ram: bytes that the whole process may take.
        ctx: positions of the context of each of `concurrency` sequences.
        kv: the KV codec, or those of the layers as in `f16*2,q4`.
        tokens_per_pass: the most tokens that pass a layer at once in prefill.
        expert_slots: per layer, how many of its experts have room; all of them: they are resident. 0 where a
            layer has none.
        streamed_layers: layers whose dense part is read from disk for each pass, in order.
        stream_buffers: buffers that these pass through, each with room for the largest.
        nbytes: what `ram` is divided into; the sum is at most `ram`.
        resident_fraction: share of the weights' bytes that stay in RAM.
        hit_rate: share of routed experts that are found in their slots during decode.
        hit_rate_source: where that is known from.
        disk_bytes_per_token: that decode reads on average.
        scheduler: that runs requests, and scheduler_why: what speaks for it.
        max_running: requests that run at once, where more would be slower together; 0: as many as have room.
        advice: what would make it faster, the most helpful first.
    """

    model: str
    ram: int
    ctx: int
    kv: str
    threads: int
    concurrency: int
    tokens_per_pass: int
    prefill: PrefillOrder
    embedding: Embedding
    expert_slots: tuple[int, ...]
    streamed_layers: tuple[int, ...]
    stream_buffers: int
    nbytes: Mapping[Kind, int]
    resident_fraction: float
    hit_rate: float
    hit_rate_source: str
    disk_bytes_per_token: int
    forecast: Forecast
    policies: PolicyNames = field(default_factory=PolicyNames)
    scheduler: str = "chunked"
    scheduler_why: str = ""
    max_running: int = 0
    advice: tuple[str, ...] = ()

    @property
    def total_nbytes(self) -> int:
        """Bytes that are spoken for, those kept in reserve among them."""
        return sum(self.nbytes.values())

    def is_resident(self, num_experts: Sequence[int]) -> bool:
        """Whether nothing is read from disk once the model is loaded.

        Args:
            num_experts: of each layer; 0 where it has none.
        """
        return (
            self.embedding == "resident"
            and not self.streamed_layers
            and all(slots >= count for slots, count in zip(self.expert_slots, num_experts, strict=True))
        )

    def require_suits(self, num_experts: Sequence[int]) -> None:
        """Make sure that the choices can be carried out with a model.

        Args:
            num_experts: of each of the model's layers; 0 where it has none.

        Raises:
            UsageError: the plan is for another model, or was edited into something that cannot be.
        """
        if len(self.expert_slots) != len(num_experts):
            layers = {"plan": len(self.expert_slots), "model": len(num_experts)}
            raise _unsuited("the number of layers differs", **layers)
        for layer, (slots, count) in enumerate(zip(self.expert_slots, num_experts, strict=True)):
            if slots > count:
                raise _unsuited(
                    f"layer {layer} has fewer experts than the plan gives slots", slots=slots, experts=count
                )
            if slots < min(MIN_SLOTS, count):
                raise _unsuited(f"layer {layer} needs {MIN_SLOTS} slots at least", slots=slots)
        if self.streamed_layers and self.streamed_layers[-1] >= len(num_experts):
            raise _unsuited(
                "a layer that is to stream does not exist",
                layer=self.streamed_layers[-1],
                layers=len(num_experts),
            )

    def to_dict(self) -> dict[str, Any]:
        """As one object that `json.dumps` takes as it is; what a plan's file holds."""
        forecast = self.forecast
        figures = {
            "decode_tok_s": forecast.decode_tok_s,
            "prefill_tok_s": forecast.prefill_tok_s,
            "ttft_s": forecast.ttft_s,
            "load_s": forecast.load_s,
        }
        return {
            "version": VERSION,
            "model": self.model,
            "ram": self.ram,
            "ctx": self.ctx,
            "kv": self.kv,
            "threads": self.threads,
            "concurrency": self.concurrency,
            "tokens_per_pass": self.tokens_per_pass,
            "prefill": self.prefill,
            "embedding": self.embedding,
            "expert_slots": list(self.expert_slots),
            "streamed_layers": list(self.streamed_layers),
            "stream_buffers": self.stream_buffers,
            "resident_fraction": self.resident_fraction,
            "hit_rate": self.hit_rate,
            "hit_rate_source": self.hit_rate_source,
            "disk_bytes_per_token": self.disk_bytes_per_token,
            "advice": list(self.advice),
            "policies": {
                "placement": self.policies.placement,
                "expert_cache": self.policies.expert_cache,
                "prediction": self.policies.prediction,
                "load_order": self.policies.load_order,
                "scheduler": self.policies.scheduler,
                "retention": self.policies.retention,
            },
            "scheduler": self.scheduler,
            "scheduler_why": self.scheduler_why,
            "max_running": self.max_running,
            "bytes": {str(kind): self.nbytes.get(kind, 0) for kind in Kind},
            "forecast": {
                **{name: figure.value for name, figure in figures.items()},
                "prompt_tokens": forecast.prompt_tokens,
                "basis": forecast.basis,
                "ranges": {name: [figure.low, figure.high] for name, figure in figures.items()},
            },
        }


def _unsuited(why: str, **numbers: object) -> UsageError:
    hint = "correct the plan, or make a new one with: apportion plan MODEL --out FILE"
    return UsageError("the plan does not suit this model", why, hint, **numbers)
