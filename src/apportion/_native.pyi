"""apportion's C++ core; see native/."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Stack = tuple[Array, int, Array | None]  # data, ggml type, bias
Weight = tuple[Array, int, tuple[int, ...], Array | None]  # data, ggml type, shape, bias

def available_isas() -> list[str]: ...

INTERLEAVED: int
PANEL_ROWS: int

def allocate(nbytes: int) -> Array: ...
def dequantize(storage: int, data: Array, out: Array) -> None: ...
def interleave_rows(ggml_type: int, data: Array, threads: int = 1) -> None: ...
def compute_peak(kind: str, threads: int, isa: str = "", repeats: int = 5) -> float: ...
def busy_seconds() -> float: ...
def best_logit(isa: str, logits: Array, /) -> int: ...
def largest_logits(isa: str, logits: Array, count: int, out: Array, /) -> int: ...
def logits_above(isa: str, logits: Array, least: float, out: Array, /) -> int: ...
def logits_reaching(isa: str, logits: Array, target: float, out: Array, /) -> int: ...
def log_sum_logits(isa: str, logits: Array, /) -> float: ...
def draw_logit(isa: str, logits: Array, temperature: float, uniform: float, /) -> int: ...
def penalise_logits(
    logits: Array,
    prompt: Array,
    answer: Array,
    repetition: float,
    presence: float,
    frequency: float,
    /,
) -> None: ...

class Stream:
    def __init__(self, nbytes: int, threads: int) -> None: ...
    @property
    def nbytes(self) -> int: ...
    def read(self, threads: int) -> float: ...

class KvMemory:
    def __init__(self, keys: Sequence[Array], values: Sequence[Array]) -> None: ...

class Program:
    def __init__(self, isa: str, threads: int, exact: bool) -> None: ...
    def embed(self, table: Weight, scale: float, /) -> int: ...
    def rms_norm(self, x: int, weight: Array, eps: float, /) -> int: ...
    def add(self, x: int, y: int, scale: float, weight: Array | None, eps: float) -> None: ...
    def add_gated(self, x: int, y: int, gate: int, /) -> None: ...
    def bound(self, x: int, scale: float, cap: float, /) -> None: ...
    def project(self, x: int, weights: Sequence[Weight], /) -> list[int]: ...
    def add_product(self, x: int, weight: Weight, to: int, scale: float, /) -> None: ...
    def gated(self, x: int, gate: Weight, up: Weight, kind: int, /) -> int: ...
    def project_heads(self, x: int, weight: Weight, keep: int, /) -> int: ...
    def add_rotary(self, inv_freq: Array, interleaved: bool, scale: float, /) -> int: ...
    def attend(
        self,
        q: int,
        k: int,
        v: int | None,
        layer: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        value_dim: int,
        rotary: int,
        rotated_from: int,
        q_norm: Array | None,
        k_norm: Array | None,
        eps: float,
        clip: float,
        scale: float,
        window: int,
        softcap: float,
        sinks: Array | None,
    ) -> int: ...
    def route(
        self,
        logits: int,
        bias: Array | None,
        top_k: int,
        score: int,
        normalize: bool,
        scale: float,
        num_groups: int,
        top_groups: int,
        top2_groups: bool,
    ) -> tuple[int, int]: ...
    def experts(
        self, x: int, ids: int, weights: int, gate: Weight, up: Weight, down: Weight, kind: int, /
    ) -> int: ...
    def mark(self, hidden: int, /) -> None: ...
    def finish(self, logits: int, /) -> None: ...
    @property
    def nbytes_per_token(self) -> int: ...
    def run(
        self,
        memory: KvMemory | None,
        source: Array,
        start: int,
        first: int,
        last: int,
        want: int,
        out: Array,
    ) -> None: ...

class Core:
    def __init__(self, isa: str, threads: int, exact: bool) -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def exact(self) -> bool: ...
    def linear(self, x: Array, data: Array, ggml_type: int, bias: Array | None, out: Array, /) -> None: ...
    def linear_heads(self, x: Array, data: Array, ggml_type: int, out: Array, /) -> None: ...
    def embed(self, ids: Array, data: Array, ggml_type: int, out: Array, /) -> None: ...
    def rms_norm(self, x: Array, weight: Array, eps: float, out: Array, /) -> None: ...
    def gate(self, gate: Array, up: Array, kind: int, out: Array, /) -> None: ...
    def rope(
        self, x: Array, positions: Array, inv_freq: Array, interleaved: bool, scale: float, /
    ) -> None: ...
    def append(self, cache: Array, x: Array, start: int, /) -> None: ...
    def attend(
        self,
        q: Array,
        k: Array,
        v: Array,
        start: int,
        scale: float,
        window: int,
        softcap: float,
        sinks: Array | None,
        out: Array,
        /,
    ) -> None: ...
    def route(
        self,
        logits: Array,
        bias: Array | None,
        top_k: int,
        score: int,
        normalize: bool,
        scale: float,
        num_groups: int,
        top_groups: int,
        top2_groups: bool,
        ids: Array,
        weights: Array,
        /,
    ) -> None: ...
    def experts(
        self,
        x: Array,
        ids: Array,
        weights: Array,
        gate: Stack,
        up: Stack,
        down: Stack,
        num_experts: int,
        inner: int,
        kind: int,
        out: Array,
        /,
    ) -> None: ...
