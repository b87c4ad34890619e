"""SmoothAttention: factors that make the channels of a layer's keys alike large, so that few bits hold them.

QServe (https://arxiv.org/abs/2405.04532): some channels of the keys are ten times as large as the others,
always the same ones. A factor lambda = max|k|^0.5 divides each channel of the keys and multiplies it in the
queries. Channels that the rotary embedding turns into each other have one factor.

The largest keys are those of a short text that is built in, run once: no data is needed, and the same model
always has the same factors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from apportion.core.errors import NotFinite, Unsupported
from apportion.formats.block import Floats
from apportion.kernels.kv_rows import read_rows
from apportion.kernels.ops import Ints
from apportion.models.config import ModelConfig

if TYPE_CHECKING:
    from apportion.models.model import Model

Smoothing: TypeAlias = tuple[Floats, ...]  # of each layer: a factor for each channel of each KV head, [G, D]

ALPHA = 0.5
MOST_TOKENS = 512  # of the text that are run; its tokens are about 400 with common vocabularies

TEXT = """The library stood at the end of Mill Street, where the river bends to the north. In 1912 it had \
cost the town 48,500 crowns, a sum that the mayor, Mr. Hollis, called "an investment in people who are not \
born yet". Nobody laughed. Within a year 3,200 readers had signed its register, farmers and clerks, two \
doctors, and every pupil of the school across the bridge.

What do you need to know before you borrow a book? First, your name and address. Second, that you may keep \
three volumes for 14 days; after that each costs 0.25 a day. Maps, newspapers and the large atlas (4th \
edition, 2 vols.) must be read in the hall.

def days_late(due: date, today: date) -> int:
    \"\"\"How many days a book is late; 0 if it is not.\"\"\"
    return max(0, (today - due).days)

By the 1950s the roof leaked. Water had reached the shelves of the natural sciences: botany, chemistry, \
geology. "We carried them out by hand," wrote Anna Lindqvist, who was nineteen then and later became the \
director, "some 11,000 of them, in the rain, and we lost fewer than forty." The council voted 7 to 6 for \
repairs. It was the closest vote in its history, and the best.

- Opening hours: Monday to Friday 9:00-18:30, Saturday 10:00-14:00
- Telephone: 555-0147
- Entrance for wheelchairs: through the garden

Today the building holds 86,000 books, 240 seats and one very old clock. Its hands have shown twenty past \
four since the winter of 1979; visitors set their watches by it anyway, and then they look again, and smile.
"""


def smoothing_of(model: Model, ids: Ints) -> Smoothing:
    """The factors of each layer, from the keys of a text.

    Raises:
        Unsupported: keys hold the values, too (latent attention).
        NotFinite: a key of the model is no number.
    """
    if model.config.latent is not None:
        raise Unsupported(
            "keys of latent attention cannot be smoothed",
            "values are a part of them",
            "choose another KV codec, such as q8",
        )
    ids = ids[: min(MOST_TOKENS, model.config.context_length)]
    cache = model.new_cache(len(ids), "f16")
    model.run_layers(model.embed(ids), cache)
    return tuple(
        np.stack(
            [factors(model.config, layer, read_rows(cache.table, layer, head, len(ids))[0]) for head in heads]
        )
        for layer, heads in enumerate([range(model.config.num_kv_heads)] * model.config.num_layers)
    )


def factors(config: ModelConfig, layer: int, keys: Floats) -> Floats:
    """A factor for each channel of keys [n, D], [D] float32."""
    largest = np.abs(keys.astype(np.float32)).max(axis=0)
    if not np.isfinite(largest).all():
        raise NotFinite(
            "a key of the model is no number",
            f"layer {layer} computed NaN or infinity, or more than f16 holds",
            "choose the KV codec bf16, or check the file with `apportion verify`",
        )
    first, second = rotated_pairs(config, layer)
    largest[first] = largest[second] = np.maximum(largest[first], largest[second])
    return np.where(largest > 0, largest, 1).astype(np.float32) ** np.float32(ALPHA)


def rotated_pairs(config: ModelConfig, layer: int) -> tuple[Ints, Ints]:
    """The channels that the rotary embedding turns into each other."""
    pairs = np.arange(config.rope_of(layer).dims // 2, dtype=np.int32)
    if config.structure.rope_style == "interleaved":
        return 2 * pairs, 2 * pairs + 1
    return pairs, pairs + len(pairs)
