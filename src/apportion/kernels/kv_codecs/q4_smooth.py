"""q4 with SmoothAttention: channels of the keys that outgrow the others are made smaller before encoding.

QServe (https://arxiv.org/abs/2405.04532): each channel of the keys is divided by lambda = max|k|^0.5, and of
the queries multiplied by it, which leaves their products as they are. Both are done after rotation, when keys
are placed, so that weights stay as they are stored; the factors are found once, see `models.smoothing`.
"""

from __future__ import annotations

from apportion.kernels.kv_codecs.q4 import Q4


class Q4Smooth(Q4):
    """The codes of `q4`, of smoothed keys."""

    smooth = True
    summary = "q4, with the keys' channels made alike large before (SmoothAttention)"


CODEC = Q4Smooth()
