"""Split models: `name-00002-of-00005.gguf` is the second of five files that together are one model."""

from __future__ import annotations

import re
from pathlib import Path

from apportion.core.disk import Disk
from apportion.core.errors import BadFile, NotFound
from apportion.formats.gguf.header import Header

MAX_SHARDS = 4096
NUMBER_KEY, COUNT_KEY, TENSORS_KEY = "split.no", "split.count", "split.tensors.count"
_SHARD_NAME = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf")


def shard_paths(path: Path) -> list[Path]:
    """All files of the model that `path` belongs to, in order; `path` alone when its name is not a shard's.

    Raises:
        BadFile: the numbers in the name make no sense.
    """
    match = _SHARD_NAME.fullmatch(path.name)
    if match is None:
        return [path]
    number, count = int(match["number"]), int(match["count"])
    if not 1 <= number <= count <= MAX_SHARDS:
        raise BadFile(f"{path.name} is not a shard's name", "its numbers make no sense", limit=MAX_SHARDS)
    return [
        path.with_name(f"{match['stem']}-{index:05d}-of-{count:05d}.gguf") for index in range(1, count + 1)
    ]


def missing_shards(path: Path, paths: list[Path], disk: Disk) -> NotFound:
    """The error for a model of which not all shards are there."""
    present = set(disk.listdir(path.parent))
    missing = [shard.name for shard in paths if shard.name not in present]
    return NotFound(
        f"{len(missing)} of the {len(paths)} shards of {path.name} are missing",
        f"the first is {missing[0]}" if missing else "",
        f"put all shards into {path.parent}",
    )


def check_shard(path: Path, index: int, header: Header) -> None:
    """Check the header of shard `index` (from 0) against the file's name.

    Raises:
        BadFile: it belongs elsewhere.
    """
    number, count = header.metadata.get(NUMBER_KEY, 0), header.metadata.get(COUNT_KEY, 0)
    match = _SHARD_NAME.fullmatch(path.name)
    if match is None:
        if count not in (0, 1):
            raise BadFile(
                f"{path.name} is one of {count} shards",
                "its name does not say which",
                f"name the shards like model-00001-of-{count:05d}.gguf" if isinstance(count, int) else "",
            )
        return
    if COUNT_KEY not in header.metadata and match["count"] == "00001":
        return
    if (number, count) != (index, int(match["count"])):
        raise BadFile(
            f"{path.name} is not the shard that its name says",
            hint="download the shards again, or restore their names",
            split_no=number,
            split_count=count,
        )


def check_totals(path: Path, headers: list[Header]) -> None:
    """Check the number of tensors of all shards together.

    Raises:
        BadFile: there are more or fewer than the first shard says.
    """
    expected = headers[0].metadata.get(TENSORS_KEY)
    found = sum(len(header.tensors) for header in headers)
    if len(headers) > 1 and expected is not None and expected != found:
        raise BadFile(
            f"the shards of {path.name} do not belong to one model", expected_tensors=expected, tensors=found
        )
