"""Published hit rates of caches of experts, by family: of real models on real text, with their source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Curve:
    """Share of routed experts that a cache per layer, least recently used out first, holds during decode.

    Args:
        fractions: of a layer's experts that the cache has room for, ascending.
        rates: as published, with the misses of a cold start.
        source: model, and who published it.
    """

    fractions: tuple[float, ...]
    rates: tuple[float, ...]
    source: str


# Figures published with boyle 0.2.1 (Apache-2.0): decode of 512 tokens, all layers, replayed.
PUBLISHED: dict[str, Curve] = {
    "qwen3moe": Curve(
        (0.05, 0.08, 0.12, 0.16, 0.20, 0.25, 0.30, 0.36, 0.45, 0.55, 0.64, 0.75, 0.90, 1.0),
        (
            0.3390, 0.4661, 0.5803, 0.6659, 0.7426, 0.8004, 0.8433,
            0.8860, 0.9329, 0.9607, 0.9731, 0.9777, 0.9787, 0.9787,
        ),
        "Qwen3-235B-A22B, published with boyle 0.2.1",
    ),
}  # fmt: skip
