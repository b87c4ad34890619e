"""Dispatch to the C++ core and its NumPy reference."""

from apportion.kernels.kv import KvPool, KvTable, LayerShape, Segment, page_layout
from apportion.kernels.kv_codec import BLOCK_TOKENS
from apportion.kernels.native import NativeOps, available_isas
from apportion.kernels.ops import ExpertWeights, Ops, Routing
from apportion.kernels.reference import ReferenceOps
from apportion.kernels.weight import Weight, weight_from_floats

__all__ = [
    "BLOCK_TOKENS",
    "ExpertWeights",
    "KvPool",
    "KvTable",
    "LayerShape",
    "NativeOps",
    "Ops",
    "ReferenceOps",
    "Routing",
    "Segment",
    "Weight",
    "available_isas",
    "page_layout",
    "weight_from_floats",
]
