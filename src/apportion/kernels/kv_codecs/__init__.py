"""KV codecs: how keys and values are stored. One file in this folder is one codec; what they share stands in
`kernels.kv_codec`.
"""

from __future__ import annotations

from apportion.core.errors import UsageError
from apportion.core.registry import Registry
from apportion.kernels.kv_codec import KvCodec

CODECS = Registry("KV codec", __name__, "CODEC", KvCodec)
DEFAULT = "f16"


def layer_codecs(words: str, num_layers: int) -> tuple[str, ...]:
    """The codec of each layer.

    Args:
        words: one name for all layers, or several with how many layers each is for: `f16*2,q4` has the first
            two layers in f16 and the others in q4.

    Raises:
        NotFound: there is no such codec.
        UsageError: the words make no sense, or are for more layers than there are.
    """
    names: list[str] = []
    parts = words.split(",")
    for index, part in enumerate(parts):
        name, _, times = part.strip().partition("*")
        CODECS.get(name)
        last = index == len(parts) - 1
        count = num_layers - len(names) if last and not times else _count(times or "1", words)
        names += [name.replace("-", "_")] * count
    if len(names) != num_layers or not names:
        raise UsageError(
            f"the KV codecs {words!r} are not for as many layers as there are",
            "the last one is for all layers that are left, unless it says for how many",
            "for example f16*2,q4",
            given=len(names),
            layers=num_layers,
        )
    return tuple(names)


def _count(times: str, words: str) -> int:
    if not times.isdigit() or not int(times):
        raise UsageError(f"{words!r} names no KV codecs", hint="give one such as q8, or some as f16*2,q4")
    return int(times)


def checked(words: str) -> str:
    """The words for codecs of a model that is not known yet, where each of them is a codec.

    Raises:
        NotFound, UsageError: as `layer_codecs`.
    """
    for part in words.split(","):
        name, _, times = part.strip().partition("*")
        CODECS.get(name)
        if times:
            _count(times, words)
    return words
