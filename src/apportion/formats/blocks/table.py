"""Every block format that a GGUF file can hold, by name and by ggml type number."""

from __future__ import annotations

from apportion.core.errors import Unsupported
from apportion.formats.block import BlockFormat
from apportion.formats.blocks import iquants, kquants, legacy, microscaling, nonlinear, plain, ternary

KINS = (plain, legacy, kquants, nonlinear, microscaling, iquants, ternary)
FORMATS: dict[str, BlockFormat] = {
    block_format.name: block_format
    for kin in KINS
    for block_format in sorted(kin.FORMATS, key=lambda block_format: block_format.ggml_type)
}
_BY_GGML_TYPE = {block_format.ggml_type: block_format for block_format in FORMATS.values()}

# Type numbers that ggml has withdrawn. The first two were dropped in 2023; the others were repacked forms of
# q4_0 and iq4_nl that loaders now make themselves.
_WITHDRAWN = {
    4: "q4_2",
    5: "q4_3",
    31: "q4_0_4_4",
    32: "q4_0_4_8",
    33: "q4_0_8_8",
    36: "iq4_nl_4_4",
    37: "iq4_nl_4_8",
    38: "iq4_nl_8_8",
}


def format_by_name(name: str) -> BlockFormat:
    """The block format of this name, upper or lower case.

    Raises:
        Unsupported: no block format has it.
    """
    block_format = FORMATS.get(name.lower())
    if block_format is None:
        raise Unsupported(f"unknown block format {name!r}", hint=f"known ones are {', '.join(FORMATS)}")
    return block_format


def format_by_ggml_type(ggml_type: int) -> BlockFormat:
    """The block format with this type number in GGUF files.

    Raises:
        Unsupported: no block format has it.
    """
    block_format = _BY_GGML_TYPE.get(ggml_type)
    if block_format is None:
        withdrawn = _WITHDRAWN.get(ggml_type)
        raise Unsupported(
            f"unknown ggml type {ggml_type}",
            f"{withdrawn} was withdrawn from ggml"
            if withdrawn
            else "it is newer than this version, or the file is damaged",
            "convert the model anew" if withdrawn else f"known types are {_known_types()}",
            ggml_type=ggml_type,
        )
    return block_format


def _known_types() -> str:
    return ", ".join(f"{number} {_BY_GGML_TYPE[number].name}" for number in sorted(_BY_GGML_TYPE))
