"""The tokenizer of a checkpoint, from whichever place it keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apportion.formats.side_files import SideFiles, files_of
from apportion.text.tokenizer import Tokenizer


def load_tokenizer(source: Mapping[str, Any] | Path) -> Tokenizer:
    """The tokenizer of a checkpoint: its GGUF metadata, or the folder with its tokenizer files.

    Raises:
        BadFile, Unsupported, NotFound: as `tokenizer_from_gguf` and `tokenizer_from_folder`.
    """
    return tokenizer_from_folder(source) if isinstance(source, Path) else tokenizer_from_gguf(source)


def tokenizer_from_gguf(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that a GGUF file carries.

    Raises:
        BadFile: the tokenizer's arrays are missing, contradict each other or are malformed.
        Unsupported: a kind of tokenizer, or a family's pre-tokenizer, that this version does not know.
    """
    from apportion.text.from_gguf import read_gguf_tokenizer

    return Tokenizer(*read_gguf_tokenizer(metadata))


def tokenizer_from_folder(folder: Path | SideFiles) -> Tokenizer:
    """The tokenizer of a Hugging Face folder, or of its files wherever they lie: `tokenizer.json`, else
    `tokenizer.model`.

    Raises:
        NotFound: the folder has neither.
        BadFile: a file is malformed.
    """
    from apportion.text.from_folder import read_folder_tokenizer

    return Tokenizer(*read_folder_tokenizer(files_of(folder)))
