"""Dispatch to the C++ core and its NumPy reference."""

from apportion.kernels.memory import KvMemory
from apportion.kernels.native import NativeOps, available_isas
from apportion.kernels.ops import ExpertWeights, Ops, Routing
from apportion.kernels.reference import ReferenceOps
from apportion.kernels.weight import Weight, weight_from_floats

__all__ = [
    "ExpertWeights",
    "KvMemory",
    "NativeOps",
    "Ops",
    "ReferenceOps",
    "Routing",
    "Weight",
    "available_isas",
    "weight_from_floats",
]
