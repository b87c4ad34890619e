"""Models that are named by a path."""

from __future__ import annotations

import os
import re
from pathlib import Path

from apportion.core.errors import BadFile, NotFound, UsageError, closest
from apportion.sources.aliases import ALIASES
from apportion.sources.reference import WORD, shown
from apportion.sources.resolved import ResolvedModel

SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.gguf|\.safetensors)")
MODEL_SUFFIXES = (".gguf", ".safetensors")
MAX_LISTED = 8


def resolve_path(path: Path) -> ResolvedModel:
    """A file or folder as the checkpoint that it stands for.

    Raises:
        NotFound: nothing is there.
        UsageError: several models are there.
        BadFile: what is there is no model.
    """
    try:
        if path.is_dir():
            found = model_in_folder(path)
        elif path.is_file():
            found = model_of_file(path)
        elif path.exists():
            raise BadFile(f"`{shown(str(path))}` is neither a file nor a folder", hint="name a model file")
        else:
            raise missing(path)
    except OSError as error:
        raise NotFound(
            f"cannot look at `{shown(str(path))}`", error.strerror or str(error), "check the path"
        ) from error
    name = found.resolve().name if found.is_dir() else found.stem
    return ResolvedModel(found, name, str(found))


def model_of_file(path: Path) -> Path:
    """The file, or the first part of the split model that it is a part of."""
    shard = SHARD.fullmatch(path.name)
    if shard is None or shard[4] != ".gguf":
        return path
    first = path.with_name(f"{shard[1]}-00001-of-{shard[3]}.gguf")
    return first if first.is_file() else path


def model_in_folder(folder: Path) -> Path:
    """A folder of safetensors is a model itself; else the one GGUF (or split set) in it."""
    names = sorted(p.name for p in folder.iterdir() if p.name.endswith(MODEL_SUFFIXES) and p.is_file())
    ggufs = [name for name in names if name.endswith(".gguf")]
    firsts = [name for name in ggufs if not (shard := SHARD.fullmatch(name)) or int(shard[2]) == 1]
    if len(ggufs) < len(names) and (folder / "config.json").is_file():
        return folder
    if len(firsts) == 1:
        return folder / firsts[0]
    if firsts:
        listed = ", ".join(shown(name) for name in firsts[:MAX_LISTED]) + (
            "…" if len(firsts) > MAX_LISTED else ""
        )
        raise UsageError(
            f"`{shown(str(folder))}` holds several models", hint=f"name one: {listed}", models=len(firsts)
        )
    why = "config.json is missing" if names else "it holds neither *.gguf nor config.json with *.safetensors"
    raise BadFile(
        f"the folder `{shown(str(folder))}` is no model", why, "name a model file or a model's folder"
    )


def missing(path: Path) -> NotFound:
    """Nothing is there: say what was most likely meant."""
    text = str(path)
    if path.is_symlink():
        return NotFound(f"{shown(text)} is a link to something that is not there", shown(os.readlink(path)))
    org, slash, name = text.partition("/")
    if close := closest(text, ALIASES):
        hint = f"did you mean {close}?"
    elif slash and path.suffix.lower() not in MODEL_SUFFIXES and WORD.fullmatch(org) and WORD.fullmatch(name):
        hint = f"for a repository on the Hugging Face hub, write hf:{text}"
    else:
        hint = f"check the path, or use one of the built-in models: {', '.join(ALIASES)}"
    return NotFound(f"no such file or folder: {shown(text)}", hint=hint)
