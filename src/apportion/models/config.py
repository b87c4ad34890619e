"""What a forward pass needs to know about a model: numbers, and the choices of its family. Nothing else.

Every value is checked where it is made, so that no later code has to ask whether heads divide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from apportion.core.errors import BadFile
from apportion.kernels.ops import Gate, RopeStyle, Routing

# Far above every published model, far below what would hurt: a file that asks for more is broken.
LIMITS = {
    "vocab_size": 1 << 24,
    "context_length": 1 << 28,
    "num_layers": 1 << 10,
    "hidden_size": 1 << 18,
    "feed_forward_size": 1 << 20,
    "num_heads": 1 << 12,
    "num_kv_heads": 1 << 12,
    "head_dim": 1 << 14,
    "value_dim": 1 << 14,
    "num_experts": 1 << 13,
    "kv_rank": 1 << 16,
}


def require(holds: bool, why: str, **numbers: object) -> None:
    """Refuse a configuration that contradicts itself."""
    if not holds:
        raise BadFile("the model's configuration is broken", why, "obtain the model anew", **numbers)


def _require_counts(values: dict[str, int]) -> None:
    for name, value in values.items():
        limit = LIMITS[name]
        require(0 < value <= limit, f"{name} must lie between 1 and {limit}", **{name: value})


def _require_finite(values: dict[str, float]) -> None:
    for name, value in values.items():
        require(math.isfinite(value), f"{name} must be a finite number", **{name: value})


@dataclass(frozen=True, slots=True)
class Structure:
    """What is the same in every model of a family.

    Attributes:
        rope_style: how the rotary embedding pairs dimensions, in the canonical (GGUF) row order.
        activation: of every gated feed-forward.
        qk_norm: queries and keys are normalized per `head`, over `all` heads at once, or not.
        post_norms: attention and feed-forward are normalized after as well as before.
        qkv_bias: query, key and value have biases. Biases of other families are used where a file has them.
        sinks: a logit per head takes part in attention's softmax.
        expert_bias: router and experts have biases.
        shared_gate: the shared expert is weighted by a sigmoid of its own.
    """

    rope_style: RopeStyle = "half"
    activation: Gate = "silu"
    qk_norm: Literal["none", "head", "all"] = "none"
    post_norms: bool = False
    qkv_bias: bool = False
    sinks: bool = False
    expert_bias: bool = False
    shared_gate: bool = False


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched for contexts beyond the trained one; see `rope.py`.

    Attributes:
        factor: how many times the context is stretched.
        original_context: positions that the model was first trained with.
        low_freq_factor, high_freq_factor: Llama 3's borders, in turns over the original context.
        beta_fast, beta_slow, truncate: YaRN's borders, in turns; truncated to whole dimensions or not.
        attention_factor: cos and sin are multiplied by it.
        short_factors, long_factors: LongRoPE's divisors per frequency. Empty: they come as tensors.
    """

    kind: Literal["none", "linear", "llama3", "yarn", "longrope"] = "none"
    factor: float = 1.0
    original_context: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    attention_factor: float = 1.0
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _require_finite({"factor": self.factor, "attention_factor": self.attention_factor})
        require(self.factor > 0, "rope factor must be positive", factor=self.factor)
        require(
            self.attention_factor > 0, "rope attention factor must be positive", value=self.attention_factor
        )
        if self.kind in ("llama3", "yarn", "longrope"):
            require(
                0 < self.original_context <= LIMITS["context_length"],
                "rope scaling needs the original context length",
                original_context=self.original_context,
            )
        if self.kind == "llama3":
            require(
                0 < self.low_freq_factor < self.high_freq_factor < math.inf,
                "low_freq_factor must be positive and below high_freq_factor",
                low_freq_factor=self.low_freq_factor,
                high_freq_factor=self.high_freq_factor,
            )
        if self.kind == "yarn":
            require(
                0 < self.beta_slow < self.beta_fast < math.inf,
                "beta_slow must be positive and below beta_fast",
                beta_slow=self.beta_slow,
                beta_fast=self.beta_fast,
            )
        factors = self.short_factors + self.long_factors
        require(all(0 < f < math.inf for f in factors), "rope factors must be positive and finite")


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding: base, the number of dimensions of a head that are rotated, scaling."""

    base: float
    dims: int
    scaling: RopeScaling = field(default_factory=RopeScaling)

    def __post_init__(self) -> None:
        require(0 < self.base < math.inf, "the rope base must be positive and finite", rope_base=self.base)
        require(
            self.dims > 0 and self.dims % 2 == 0,
            "the number of rotated dimensions must be even and positive",
            rope_dims=self.dims,
        )
        for factors in (self.scaling.short_factors, self.scaling.long_factors):
            require(
                len(factors) in (0, self.dims // 2),
                "there must be one rope factor per frequency",
                factors=len(factors),
                frequencies=self.dims // 2,
            )


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention: keys and values are made from one cached vector per position.

    Attributes:
        q_rank: width that queries pass through; 0 when they are projected directly.
        kv_rank: width of the latent.
        nope_dim, rope_dim: parts of a query or key head without and with rotation.
        value_dim: size of a value head.
    """

    q_rank: int
    kv_rank: int
    nope_dim: int
    rope_dim: int
    value_dim: int

    def __post_init__(self) -> None:
        _require_counts({"kv_rank": self.kv_rank, "value_dim": self.value_dim, "head_dim": self.nope_dim})
        require(
            0 <= self.q_rank <= LIMITS["kv_rank"],
            "the queries' rank is out of range",
            q_lora_rank=self.q_rank,
        )


@dataclass(frozen=True, slots=True)
class Experts:
    """The mixture of experts of a model.

    Attributes:
        num_experts, feed_forward_size: of each layer that has experts.
        routing: how the router's logits become a route.
        layers: which layers have experts.
        shared_size: feed-forward size of the expert that every token passes; 0 when there is none.
    """

    num_experts: int
    feed_forward_size: int
    routing: Routing
    layers: tuple[bool, ...]
    shared_size: int = 0

    def __post_init__(self) -> None:
        _require_counts({"num_experts": self.num_experts, "feed_forward_size": self.feed_forward_size})
        require(
            0 <= self.shared_size <= LIMITS["feed_forward_size"],
            "the shared expert's size is out of range",
            shared_size=self.shared_size,
        )
        self._check_routing(self.routing)

    def _check_routing(self, routing: Routing) -> None:
        require(
            0 < routing.top_k <= self.num_experts,
            "experts per token must lie between 1 and the number of experts",
            experts_per_token=routing.top_k,
            num_experts=self.num_experts,
        )
        _require_finite({"expert_weights_scale": routing.scale})
        require(
            0 < routing.top_groups <= routing.num_groups and self.num_experts % routing.num_groups == 0,
            "expert groups must divide the experts, and no more can be chosen than there are",
            num_groups=routing.num_groups,
            top_groups=routing.top_groups,
            num_experts=self.num_experts,
        )
        group_size = self.num_experts // routing.num_groups
        require(
            routing.top_k <= routing.top_groups * group_size,
            "the chosen groups hold fewer experts than a token needs",
            experts_per_token=routing.top_k,
            experts_in_groups=routing.top_groups * group_size,
        )
        require(
            routing.group_score != "top2" or routing.num_groups == 1 or group_size >= 2,
            "groups that are judged by two experts need two",
            group_size=group_size,
        )


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A model's numbers and choices.

    Attributes:
        family: name of the family's file in `models/families`.
        structure: the family's own choices.
        head_dim, value_dim: size of a query and key head, and of a value head.
        feed_forward_size: of layers without experts; 0 when there are none.
        windows: per layer, how many positions attention sees; 0: all of them.
        rope, local_rope: rotary embedding; layers with a window use `local_rope` where it is given.
        attention_scale: scores are multiplied by it.
        attention_softcap, logit_softcap: c > 0 turns a score or logit s into c * tanh(s / c).
        embedding_scale, residual_scale, logit_scale: factors on the embedding, on what each half of a layer
            adds, and on the logits.
        qkv_clip: queries, keys and values are clipped to +-this; 0: not.
        tied_head: the embedding is the head, whatever else a file holds; None: where no head is stored.
    """

    family: str
    vocab_size: int
    context_length: int
    num_layers: int
    hidden_size: int
    feed_forward_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    value_dim: int
    norm_eps: float
    rope: Rope
    windows: tuple[int, ...]
    attention_scale: float
    structure: Structure = field(default_factory=Structure)
    local_rope: Rope | None = None
    attention_softcap: float = 0.0
    logit_softcap: float = 0.0
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    qkv_clip: float = 0.0
    latent: LatentAttention | None = None
    experts: Experts | None = None
    tied_head: bool | None = None

    def __post_init__(self) -> None:
        names = ("vocab_size", "context_length", "num_layers", "hidden_size", "num_heads", "num_kv_heads")
        _require_counts({name: getattr(self, name) for name in (*names, "head_dim", "value_dim")})
        self._check_sizes()
        self._check_numbers()
        for rope in (self.rope, self.local_rope):
            limit = self.latent.rope_dim if self.latent else self.head_dim
            require(
                rope is None or rope.dims <= limit,
                "more dimensions are rotated than a head has",
                rope_dims=rope and rope.dims,
                head_dim=limit,
            )

    def _check_sizes(self) -> None:
        require(
            self.num_heads % self.num_kv_heads == 0,
            "the number of heads must be a multiple of the number of key-value heads",
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
        )
        has_dense = self.experts is None or not all(self.experts.layers)
        if has_dense:
            _require_counts({"feed_forward_size": self.feed_forward_size})
        require(
            len(self.windows) == self.num_layers and all(w >= 0 for w in self.windows),
            "there must be one window per layer, none negative",
            num_layers=self.num_layers,
        )
        if self.experts is not None:
            require(
                len(self.experts.layers) == self.num_layers and any(self.experts.layers),
                "some of the layers must have experts",
                num_layers=self.num_layers,
            )

    def _check_numbers(self) -> None:
        scales = ("attention_scale", "embedding_scale", "residual_scale", "logit_scale")
        at_least_zero = ("norm_eps", "attention_softcap", "logit_softcap", "qkv_clip")
        _require_finite({name: getattr(self, name) for name in (*scales, *at_least_zero)})
        for name in at_least_zero:
            value = getattr(self, name)
            require(value >= 0, f"{name} must not be negative", **{name: value})
        for name in scales:
            value = getattr(self, name)
            require(value != 0, f"{name} must not be zero", **{name: value})

    def has_experts(self, layer: int) -> bool:
        """Whether this layer's feed-forward is a mixture of experts."""
        return self.experts is not None and self.experts.layers[layer]

    def rope_of(self, layer: int) -> Rope:
        """The rotary embedding of this layer."""
        return self.local_rope if self.local_rope is not None and self.windows[layer] else self.rope

    @property
    def q_width(self) -> int:
        """Numbers in all query heads of a token."""
        return self.num_heads * self.head_dim

    @property
    def k_width(self) -> int:
        """Numbers in all key heads of a token."""
        return self.num_kv_heads * self.head_dim

    @property
    def v_width(self) -> int:
        """Numbers in all value heads of a token."""
        return self.num_kv_heads * self.value_dim
