"""The matrices of known models, for measuring products at the sizes that people run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix [rows, cols]; matrices that share one input, as q, k and v do, count as one."""

    name: str
    rows: int
    cols: int


@dataclass(frozen=True, slots=True)
class ExpertProducts:
    """A layer's experts, of which each token uses some: gate and up [count, inner, hidden], down [count,
    hidden, inner].
    """

    count: int
    used: int
    inner: int
    hidden: int


@dataclass(frozen=True, slots=True)
class ModelShape:
    """One layer's products, and the head's.

    Attributes:
        layer: the dense products.
        experts: what stands in a feed-forward part's place.
    """

    name: str
    layer: tuple[Product, ...]
    head: Product
    experts: ExpertProducts | None = None

    @property
    def all_cols(self) -> set[int]:
        """How long the rows of its matrices are."""
        inner = {self.experts.inner, self.experts.hidden} if self.experts else set()
        return {product.cols for product in (*self.layer, self.head)} | inner


def dense(name: str, hidden: int, q: int, kv: int, inner: int, vocabulary: int) -> ModelShape:
    """A model whose heads make `q` query columns and `kv` columns each of keys and of values."""
    feed_forward = (Product("gate+up", 2 * inner, hidden), Product("down", hidden, inner))
    return ModelShape(name, attention(hidden, q, kv) + feed_forward, Product("head", vocabulary, hidden))


def sparse(name: str, hidden: int, q: int, kv: int, experts: ExpertProducts, vocabulary: int) -> ModelShape:
    return ModelShape(name, attention(hidden, q, kv), Product("head", vocabulary, hidden), experts)


def attention(hidden: int, q: int, kv: int) -> tuple[Product, ...]:
    return (Product("q+k+v", q + 2 * kv, hidden), Product("out", hidden, q))


SHAPES = {
    shape.name: shape
    for shape in (
        dense("smollm2-135m", 576, 576, 192, 1536, 49_152),
        dense("gemma3-270m", 640, 1024, 256, 2048, 262_144),
        sparse("olmoe", 2048, 2048, 2048, ExpertProducts(64, 8, 1024, 2048), 50_304),
        sparse("qwen3-30b-a3b", 2048, 4096, 512, ExpertProducts(128, 8, 768, 2048), 151_936),
    )
}
