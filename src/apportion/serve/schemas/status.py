"""What `/v1/apportion/*` tells: the state of the server as data. Sizes in bytes, times in seconds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from apportion.serve.schemas.base import Told


class Exact(Told):
    """What the server says, and nothing else."""

    model_config = ConfigDict(extra="forbid")


class Ram(Exact):
    """Memory, and who has it."""

    limit_bytes: int | None = Field(
        description="The budget of the whole process; null where none was stated."
    )
    leased_bytes: int = Field(description="What is spoken for, of all kinds together.")
    rss_bytes: int = Field(description="What the process has now, as the system counts it.")
    peak_rss_bytes: int
    kinds: dict[str, int] = Field(description="What is spoken for, by what it is for.")


class Disk(Exact):
    """Room on disk for keys and values of earlier requests."""

    limit_bytes: int
    used_bytes: int


class Budget(Exact):
    """How memory and disk are divided now."""

    ram: Ram
    disk: Disk


class Speeds(Exact):
    """How fast a model is: as it was planned, or as it was in the last minute."""

    decode_tok_s: float | None = Field(description="Of one answer, after its first token.")
    prefill_tok_s: float | None
    ttft_s: float | None = Field(description="To the first token; the median where it was measured.")


class Kv(Exact):
    """Memory for keys and values."""

    codec: str
    block_tokens: int
    blocks: int
    free_blocks: int = Field(description="That nobody holds.")
    kept_blocks: int = Field(description="That are held only because a later request may want them.")


class Experts(Exact):
    """Experts that come and go, of all layers together."""

    layers: int = Field(description="Layers whose experts come and go.")
    experts: int = Field(description="Of each layer.")
    slots: int = Field(description="Experts that there is room for.")
    hits: int = Field(
        description="Since the model was loaded: experts that were found, in prompts and answers."
    )
    misses: int = Field(description="Experts that were read from the disk for somebody who waited.")
    resident: int = Field(description="Experts that are in memory now.")


class ModelStatus(Exact):
    """A model that the server offers."""

    name: str
    state: Literal["loaded", "loading", "unloaded", "failed"]
    progress: float = Field(ge=0, le=1, description="Of loading.")
    error: str | None = Field(description="Why it could not be loaded.")
    ctx: int | None = Field(description="Positions of a request's context.")
    scheduler: str | None
    kv: Kv | None
    plan: dict[str, Any] | None = Field(
        description="As `apportion plan --json`; null where no budget was stated."
    )
    forecast: Speeds | None
    measured: Speeds
    experts: Experts | None = Field(description="Null where all weights stay in memory.")


class RequestStatus(Exact):
    """A request that a client waits for."""

    id: str = Field(description="As in the answer.")
    model: str
    state: Literal["waiting", "loading", "prefill", "decode"]
    choices: int
    prompt_tokens: int
    cached_tokens: int = Field(description="Prompt tokens that needed no computing.")
    computed_tokens: int = Field(description="Prompt tokens whose keys and values are in memory.")
    output_tokens: int = Field(description="Of all choices together.")
    max_tokens: int
    age_s: float
    ttft_s: float | None
    tok_s: float | None = Field(description="Output tokens by the seconds since the first.")


class Rates(Exact):
    """What the server does now; null where it does nothing. Throughput is of the last 5 seconds, by the time
    in which something ran; percentiles are of the requests that ended in the last minute.
    """

    decode_tok_s: float | None = Field(description="Tokens of all answers together.")
    prefill_tok_s: float | None
    disk_read_bytes_s: float | None
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    tpot_p50_s: float | None
    tpot_p99_s: float | None


class Status(Exact):
    """The server at one moment."""

    version: str
    uptime_s: float
    ready: bool
    draining: bool
    budget: Budget
    models: list[ModelStatus]
    requests: list[RequestStatus]
    rates: Rates
    stalls: dict[str, float] = Field(
        description="Seconds in which nothing was computed, by what was waited for, since models were loaded."
    )
    counters: dict[str, int] = Field(description="Of the models that are loaded, since they were.")


class ExpertMap(Exact):
    """Experts by layer, of the layers whose experts come and go."""

    model: str
    layers: int
    experts: int
    numbers: list[int] = Field(description="Which layers these are.")
    resident: list[list[int]] = Field(description="[layers][experts]: 1 where it is in memory now.")
    hits: list[list[int]]
    misses: list[list[int]]


class PlanAsk(BaseModel):
    """What to plan for."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(
        None, max_length=256, description="One that the server offers; null: the first."
    )
    ram: Annotated[int, Field(gt=0, le=1 << 56)] | Annotated[str, Field(max_length=32)] = Field(
        description="Bytes, or as `8GiB`, `50%`, `auto`."
    )
    ctx: int | None = Field(None, ge=1, le=1 << 24)


class Planned(Told):
    """A plan, as `apportion plan --json` tells it; the figures that matter most by name."""

    fits: bool
    smallest_budget: int = Field(description="The smallest budget that does, in bytes.")
    resident_budget: int = Field(description="The smallest that keeps everything in memory.")
    model: str
    ram: int
    ctx: int
    resident_fraction: float
    hit_rate: float
    disk_bytes_per_token: int
    bytes: dict[str, int]
    forecast: dict[str, Any]
    advice: list[str]
    tiers: dict[str, int]


class Cancelled(Exact):
    """A request that was told to end."""

    id: str
    cancelled: Literal[True] = True
