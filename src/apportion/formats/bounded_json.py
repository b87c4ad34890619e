"""JSON from untrusted files: bounded in size and depth, strict about what the standard leaves open.

Refused: duplicate keys (two readers would see two files), NaN and infinities, numbers that overflow, a byte
order mark, anything that is not UTF-8, and halves of surrogate pairs, which no output could print.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from apportion.core.disk import Disk
from apportion.core.errors import BadFile, LimitExceeded
from apportion.formats.source_file import REAL_DISK, SourceFile

MAX_CONFIG_NBYTES = 16 << 20
MAX_DEPTH = 64

_BOM = b"\xef\xbb\xbf"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_json_bounded(
    path: Path, max_nbytes: int = MAX_CONFIG_NBYTES, max_depth: int = MAX_DEPTH, disk: Disk = REAL_DISK
) -> Any:
    """Read and parse a whole JSON file.

    Raises:
        NotFound, DiskFault: it cannot be read.
        LimitExceeded: it is larger than `max_nbytes`, or nested deeper than `max_depth`.
        BadFile: it is not strict JSON.
    """
    source = SourceFile(path, disk)
    try:
        if source.size > max_nbytes:
            raise LimitExceeded(f"{path.name} is too large", nbytes=source.size, limit=max_nbytes)
        data = bytearray(source.size)
        source.read_into(memoryview(data), 0)
    finally:
        source.close()
    return parse_json_bounded(bytes(data), path.name, max_depth)


def parse_json_bounded(data: bytes, what: str, max_depth: int = MAX_DEPTH) -> Any:
    """Parse JSON text; time and memory linear in its length. `what` names it in errors.

    Raises:
        LimitExceeded: it is nested deeper than `max_depth`.
        BadFile: it is not strict JSON.
    """
    if data.startswith(_BOM):
        raise BadFile(f"{what} begins with a byte order mark", hint="save it as plain UTF-8")
    depth = json_depth(data, max_depth)
    if depth > max_depth:
        raise LimitExceeded(f"{what} is nested too deep", depth=depth, limit=max_depth)
    try:
        value = json.loads(
            str(data, "utf-8"),
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
        if _SURROGATE.search(data):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise BadFile(f"{what} is not UTF-8", error.reason, position=error.start) from None
    except (ValueError, RecursionError) as error:
        raise BadFile(f"{what} is not valid JSON", str(error)) from None
    return value


def json_depth(data: bytes, enough: int) -> int:
    """How deep arrays and objects lie in each other; just an upper bound where that is below `enough`."""
    brackets = data.count(b"[") + data.count(b"{")
    if brackets <= enough:
        return brackets
    text = np.frombuffer(data.replace(rb"\\", b"").replace(rb"\"", b""), np.uint8)
    outside = np.cumsum(text == ord('"'), dtype=np.uint8) & 1 == 0  # only the parity counts: it may wrap
    text = text[outside]
    opening, closing = (text == ord("[")) | (text == ord("{")), (text == ord("]")) | (text == ord("}"))
    steps = opening.astype(np.int8) - closing
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0))


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"key {counts.most_common(1)[0][0][:80]!r} stands twice")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} overflows")
    return value
