"""Which files of a repository make up a model that we can read. Nothing pickled is ever among them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from apportion.core.errors import BadFile, NotFound
from apportion.sources.pick import Choice, choices, pick
from apportion.sources.reference import shown

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SIDE_FILES = frozenset(
    {
        CONFIG,
        INDEX,
        "generation_config.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "vocab.txt",
        "merges.txt",
        "chat_template.jinja",
        "chat_template.json",
    }
)
WEIGHTS = re.compile(r"model(?:-(\d{5})-of-(\d{5}))?\.safetensors")
NO_WEIGHTS = ("consolidated", "adapter")
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
INDEX_LIMIT = 64 << 20


@dataclass(frozen=True, slots=True)
class Selection:
    """Files to have, and what to open: the file `entry`, or the folder itself when it is None."""

    names: tuple[str, ...]
    entry: str | None
    quant: str


def select(files: Mapping[str, int], quant: str | None, where: str) -> Selection:
    """Choose among a repository's files (name -> bytes).

    Raises:
        NotFound: it holds no model that we can read, or none with that quantization.
        UsageError: several models carry the quantization.
    """
    if quant is None and not choices(files.items()):
        return select_safetensors(files, where)
    choice: Choice = pick(files.items(), quant, where)
    return Selection(choice.names, choice.first, choice.quant)


def select_safetensors(files: Collection[str], where: str) -> Selection:
    """config.json, the tokenizer's files and the weights, all at the top of the repository."""
    weights = [name for name in files if WEIGHTS.fullmatch(name)]
    if not weights:
        weights = [
            name
            for name in files
            if name.endswith(".safetensors") and "/" not in name and not name.startswith(NO_WEIGHTS)
        ]
    if not weights or CONFIG not in files:
        raise NotFound(f"no model in {where}", why_no_model(files, has_weights=bool(weights)))
    return Selection(tuple(sorted([*weights, *(SIDE_FILES & set(files))])), None, "")


def why_no_model(files: Collection[str], *, has_weights: bool) -> str:
    if has_weights:
        return f"it has weights but no {CONFIG}"
    if any(name.endswith(PICKLED) for name in files):
        return "its weights are pickled, which can run code, and are never read; look for safetensors or GGUF"
    return "it holds neither GGUF nor safetensors files"


def is_complete(folder: Path, selection: Selection) -> bool:
    """Whether a folder of safetensors has all the shards that its file names and its index speak of."""
    names = set(selection.names)
    for name in selection.names:
        if (match := WEIGHTS.fullmatch(name)) and match[2]:
            count = int(match[2])
            if any(f"model-{i:05d}-of-{count:05d}.safetensors" not in names for i in range(1, count + 1)):
                return False
    return INDEX not in names or indexed_shards(folder / INDEX) <= names


def indexed_shards(path: Path) -> set[str]:
    """The file names that an index maps tensors to.

    Raises:
        BadFile: it is no index.
    """
    try:
        if path.stat().st_size > INDEX_LIMIT:
            raise BadFile(f"{path.name} is too large", limit=INDEX_LIMIT)
        return set(json.loads(path.read_bytes())["weight_map"].values())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadFile(f"{path.name} is damaged", str(error)) from error


def check_repository_name(name: str, where: str) -> str:
    """A file's name as the hub gives it, which becomes a path below the cache.

    Raises:
        BadFile: it would lead out of its folder.
    """
    parts = PurePosixPath(name).parts
    plain = all(c.isprintable() and c not in '\\:*?"<>|' for c in name)
    if not plain or not parts or name.startswith("/") or ".." in parts or len(name) > 1024:
        raise BadFile(f"{where} holds a file with an unsafe name", shown(ascii(name)))
    return name
