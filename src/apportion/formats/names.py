"""Which strings from a file may name a tensor or a key: they are printed, and some end up in paths."""

from __future__ import annotations

import unicodedata

_REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def why_not_a_name(name: str) -> str | None:
    """The reason to refuse `name`, or None when it is fine."""
    if not name:
        return "it is empty"
    plain = name.isascii() and name.isprintable()
    if not plain and any(unicodedata.category(char) in _REFUSED_CATEGORIES for char in name):
        return "it has control characters"
    parts = name.replace("\\", "/").split("/")
    if parts[0] == "" or ".." in parts:
        return "it looks like a path"
    return None
