"""What can go wrong with the hub, in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from apportion.core.errors import ApportionError, DiskFault, NotFound, Offline, SourceError
from apportion.sources.reference import HubReference, shown

# The hub's library has changed its HTTP library more than once; all of them are meant.
HTTP_LIBRARIES = {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"}
ACCESS_HINT = "set HF_TOKEN to a token that may read it"


@contextmanager
def in_our_words(reference: HubReference) -> Iterator[None]:
    """Turn the library's errors into ours; errors that are ours already pass."""
    try:
        yield
    except ApportionError:
        raise
    except Exception as error:
        ours = translated(reference, error)
        if ours is None:
            raise
        raise ours from error


def translated(reference: HubReference, error: Exception) -> ApportionError | None:
    """None for what is no failure of hub, network or disk."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/{reference.repo}"
    why = first_line(error)
    match error:
        case errors.GatedRepoError():
            return SourceError(
                f"{reference.repo} is gated", why, f"accept its terms at {page}, then {ACCESS_HINT}"
            )
        case errors.RepositoryNotFoundError():
            hint = f"check the name; if it is private, {ACCESS_HINT}"
            return NotFound(
                f"no repository {reference.repo} on the hub", "it does not exist, or is private", hint
            )
        case errors.OfflineModeIsEnabled():
            return Offline(f"{reference} is not on this machine", why, "unset HF_HUB_OFFLINE")
        case errors.EntryNotFoundError():
            return SourceError(f"{reference.repo} changed while it was downloaded", why, "pull it again")
        case errors.HfHubHTTPError():
            return answer(reference, error)
    if type(error).__module__.partition(".")[0] in HTTP_LIBRARIES or isinstance(
        error, (ConnectionError, TimeoutError)
    ):
        return SourceError(
            f"cannot reach the hub for {reference}",
            why,
            "check the network and HF_ENDPOINT; what came so far is kept",
        )
    if isinstance(error, OSError) and error.errno is not None:
        return DiskFault("cannot write the hub's cache", why, "check HF_HUB_CACHE and the disk's space")
    if isinstance(error, (OSError, ValueError)):
        return SourceError(f"the hub's answer for {reference} is not usable", why, "pull it again")
    return None


def answer(reference: HubReference, error: Exception) -> SourceError:
    """An HTTP status that says no."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", 0)
    why = first_line(error)
    if status in (401, 403):
        return SourceError(f"the hub refuses access to {reference.repo}", why, ACCESS_HINT, status=status)
    if status == 429:
        return SourceError(
            "the hub asks for fewer requests", why, "wait a little, then pull again", status=status
        )
    return SourceError(f"the hub failed to serve {reference.repo}", why, "try again later", status=status)


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return shown(lines[0] if lines else type(error).__name__, 300)
