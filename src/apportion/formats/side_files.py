"""The small files that belong to a model of safetensors: configuration, tokenizer, chat template. They lie in
its folder, or inside of a packed file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from apportion.core.errors import LimitExceeded, NotFound
from apportion.formats.source_file import SourceFile

SIDE_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
TEMPLATES = "additional_chat_templates"


class SideFiles(Protocol):
    """Files by name; names of those in a folder within have a slash."""

    @property
    def place(self) -> str:
        """Where they lie, for messages."""

    def names(self) -> list[str]:
        """All of them, those that the model's own code reads."""

    def has(self, name: str) -> bool:
        """Whether there is such a file."""

    def read(self, name: str, max_nbytes: int) -> bytes:
        """All bytes of a file.

        Raises:
            LimitExceeded: it is larger than `max_nbytes`.
            NotFound, BadFile, DiskFault: it cannot be read.
        """


class FolderFiles:
    """The small files of a model's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def place(self) -> str:
        return self._folder.name or str(self._folder)

    def names(self) -> list[str]:
        templates = sorted((self._folder / TEMPLATES).glob("*.jinja"))
        found = [self._folder / name for name in SIDE_FILES] + templates
        return [path.relative_to(self._folder).as_posix() for path in found if path.is_file()]

    def has(self, name: str) -> bool:
        return (self._folder / name).is_file()

    def read(self, name: str, max_nbytes: int) -> bytes:
        source = SourceFile(self._folder / name)
        try:
            require_small(name, source.size, max_nbytes)
            data = bytearray(source.size)
            source.read_into(memoryview(data), 0)
        finally:
            source.close()
        return bytes(data)


class NoFiles:
    """A checkpoint that has none: its metadata says it all."""

    place = ""

    def names(self) -> list[str]:
        return []

    def has(self, name: str) -> bool:
        return False

    def read(self, name: str, max_nbytes: int) -> bytes:
        raise NotFound(f"there is no {name}")


def files_of(source: Path | SideFiles) -> SideFiles:
    """The small files of a folder, or those that are given."""
    return FolderFiles(source) if isinstance(source, Path) else source


def require_small(name: str, nbytes: int, limit: int) -> None:
    """
    Raises:
        LimitExceeded: the file is larger than the limit.
    """
    if nbytes > limit:
        raise LimitExceeded(f"{name} is too large", nbytes=nbytes, limit=limit)
