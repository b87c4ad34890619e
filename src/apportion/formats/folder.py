"""A model folder: which files in it may be opened."""

from __future__ import annotations

from pathlib import Path

from apportion.core.errors import BadFile, NotFound


def file_in(folder: Path, name: str) -> Path:
    """The path of `name` in a model folder, for a name that may come from one of its files.

    A link may point within the folder or, as in the snapshots of the Hugging Face hub's cache, into the
    repository's `blobs` two levels up; nowhere else.

    Raises:
        BadFile: the name or its link leads out of the folder, or in a circle.
        NotFound: there is no such file.
    """
    if name in ("", ".", "..") or set(name) & set('/\\\0:*?"<>|'):
        raise BadFile(
            f"{name[:80]!a} is not the name of a file in the model folder", hint="the model may be forged"
        )
    path = folder / name
    try:
        real, home = path.resolve(strict=True), folder.resolve(strict=True)
    except FileNotFoundError:
        raise NotFound(f"{name} is missing", f"it is not in {folder}", "download the whole model") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a circle of links
        raise BadFile(f"{name[:80]!a} cannot be followed", str(error)) from None
    if not any(real.is_relative_to(root) for root in _roots(home)):
        raise BadFile(
            f"{name} is a link that leads out of the model folder",
            f"it leads to {real}",
            "put the file itself into the folder",
        )
    return path


def _roots(home: Path) -> list[Path]:
    if home.parent.name == "snapshots":
        return [home, home.parent.parent / "blobs"]
    return [home]
