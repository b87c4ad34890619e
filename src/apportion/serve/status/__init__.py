"""The state of a server as data, put together from what the engine and the meters know."""

from apportion.serve.status.experts import expert_map
from apportion.serve.status.snapshot import Snapshot, snapshot_of

__all__ = ["Snapshot", "expert_map", "snapshot_of"]
