"""apportion's C++ core; see native/."""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Stack = tuple[Array, int, Array | None]  # data, ggml type, bias

def available_isas() -> list[str]: ...
def dequantize(ggml_type: int, data: Array, out: Array) -> None: ...
def compute_peak(kind: str, threads: int, isa: str = "", repeats: int = 5) -> float: ...
def busy_seconds() -> float: ...

class Stream:
    def __init__(self, nbytes: int, threads: int) -> None: ...
    @property
    def nbytes(self) -> int: ...
    def read(self, threads: int) -> float: ...

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
