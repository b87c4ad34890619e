"""Routes files: which experts a model chose, token after token, so that a run can be replayed.

    magic "APROUTES", version u32, length of the header u32
    header: a JSON object {model, layers, num_experts, top_k, gates, hidden}
    one record for each token: expert ids u8 (u16 above 256 experts) [layers, top_k],
        gates f16 [layers, top_k] if `gates`, router inputs f16 [layers, hidden] if `hidden`

All numbers are little-endian. How many tokens there are follows from the file's size: a file whose writer was
killed holds every whole record, and what is left of the last one is passed over.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from apportion.core.disk import Disk, write_all
from apportion.core.errors import BadFile, LimitExceeded, Truncated, Unsupported
from apportion.formats.bounded_json import parse_json_bounded
from apportion.formats.source_file import REAL_DISK, SourceFile

MAGIC = b"APROUTES"
VERSION = 1
MAX_HEADER_NBYTES = 1 << 16
MAX_LAYERS = 4096
MAX_EXPERTS = 1 << 16
MAX_HIDDEN = 1 << 17
MAX_RECORD_NBYTES = 1 << 26
CHUNK_NBYTES = 1 << 24  # read at once where only the ids are wanted

_PREAMBLE = struct.Struct("<8sII")
_HINT = "the file is damaged, or is no routes file"


@dataclass(frozen=True)  # without slots: the record's layout is made once
class RoutesShape:
    """What a routes file says of its model.

    Attributes:
        model: its name.
        layers: the numbers of the layers with experts, rising.
        top_k: experts per token and layer.
        gates: whether the experts' weights are there too.
        hidden: width of the router inputs that are there too; 0: they are not.
    """

    model: str
    layers: tuple[int, ...]
    num_experts: int
    top_k: int
    gates: bool = False
    hidden: int = 0

    @cached_property
    def record(self) -> np.dtype[np.void]:
        """One token's layout."""
        choices = (len(self.layers), self.top_k)
        parts: list[tuple[str, str, tuple[int, int]]] = [
            ("experts", "u1" if self.num_experts <= 256 else "<u2", choices)
        ]
        if self.gates:
            parts.append(("gates", "<f2", choices))
        if self.hidden:
            parts.append(("inputs", "<f2", (len(self.layers), self.hidden)))
        return np.dtype(parts)


@dataclass(frozen=True, slots=True, eq=False)
class Routes:
    """Some tokens' routes.

    Attributes:
        experts: ids [tokens, layers, top_k], each once per token and layer.
        gates: their weights, as `experts`; None where the file has none.
        inputs: what the routers saw, [tokens, layers, hidden]; None where the file has none.
    """

    experts: NDArray[np.uint8 | np.uint16]
    gates: NDArray[np.float16] | None = None
    inputs: NDArray[np.float16] | None = None


class RoutesFile:
    """A routes file, open for reading.

    Raises:
        NotFound, DiskFault: it cannot be opened or read.
        BadFile, Truncated: it breaks the format.
        Unsupported: another version.
        LimitExceeded: a header or a count beyond the stated caps.
    """

    def __init__(self, path: str | Path, disk: Disk = REAL_DISK) -> None:
        self._source = SourceFile(Path(path), disk)
        try:
            self.shape, self._start = _read_header(self._source)
        except BaseException:
            self._source.close()
            raise
        self.num_tokens, self.num_cut_bytes = divmod(
            self._source.size - self._start, self.shape.record.itemsize
        )

    @property
    def path(self) -> Path:
        return self._source.path

    def read(self, start: int, stop: int) -> Routes:
        """The tokens start..stop-1, all that the file has of them.

        Raises:
            BadFile: there is no such expert, or one stands twice among a token's.
            DiskFault: the operating system failed the read.
        """
        assert 0 <= start <= stop <= self.num_tokens, (start, stop, self.num_tokens)
        records = np.empty(stop - start, self.shape.record)
        self._source.read_into(records.view(np.uint8).data, self._start + start * records.itemsize)
        self._check(records["experts"], start)
        return Routes(
            records["experts"],
            records["gates"] if self.shape.gates else None,
            records["inputs"] if self.shape.hidden else None,
        )

    def experts(self, most: int | None = None) -> NDArray[np.uint8 | np.uint16]:
        """The expert ids of all tokens, or of at most so many at the front, [tokens, layers, top_k], read
        piece by piece; raises what `read` raises.
        """
        stop = self.num_tokens if most is None else min(most, self.num_tokens)
        step = max(1, CHUNK_NBYTES // self.shape.record.itemsize)
        pieces = [
            self.read(start, min(start + step, stop)).experts.copy()  # not the whole record
            for start in range(0, stop, step)
        ]
        return np.concatenate(pieces) if pieces else self.read(0, 0).experts

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, experts: NDArray[np.uint8 | np.uint16], first: int) -> None:
        ordered = np.sort(experts, axis=-1)
        for faulty, what in (
            (ordered[..., -1] >= self.shape.num_experts, "names an expert that the model does not have"),
            ((ordered[..., 1:] == ordered[..., :-1]).any(axis=-1), "names an expert twice"),
        ):
            if faulty.any():
                token, layer = (int(index) for index in np.argwhere(faulty)[0])
                raise BadFile(
                    f"a route in {self.path.name} {what}",
                    hint=_HINT,
                    token=first + token,
                    layer=self.shape.layers[layer],
                    experts=experts[token, layer].tolist(),
                )


class RoutesWriter:
    """Writes a routes file from front to back. What was appended can be read whatever happens after it.

    Raises:
        DiskFault: the operating system refused the file.
    """

    def __init__(self, path: str | Path, shape: RoutesShape, disk: Disk = REAL_DISK) -> None:
        header = json.dumps(asdict(shape)).encode()
        assert _faults(json.loads(header)) == "", shape
        assert len(header) <= MAX_HEADER_NBYTES, len(header)
        self.shape = shape
        self.num_tokens = 0
        self._file = disk.open(path, "create")
        self._offset = 0
        self._write(_PREAMBLE.pack(MAGIC, VERSION, len(header)) + header)

    def append(
        self,
        experts: NDArray[Any],
        gates: NDArray[Any] | None = None,
        inputs: NDArray[Any] | None = None,
    ) -> None:
        """Add tokens; arrays as in `Routes`, of any number type.

        Raises:
            DiskFault: the operating system failed the write.
        """
        assert (gates is None, inputs is None) == (not self.shape.gates, not self.shape.hidden)
        assert experts.size == 0 or 0 <= experts.min() <= experts.max() < self.shape.num_experts
        records = np.empty(len(experts), self.shape.record)
        for name, values in (("experts", experts), ("gates", gates), ("inputs", inputs)):
            if values is not None:
                assert values.shape == records[name].shape, (name, values.shape)
                records[name] = values
        self._write(records.tobytes())
        self.num_tokens += len(experts)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        write_all(self._file, data, self._offset)
        self._offset += len(data)


def _read_header(source: SourceFile) -> tuple[RoutesShape, int]:
    """The shape, and where the records begin."""
    name = source.path.name
    magic, version, nbytes = _PREAMBLE.unpack(_take(source, 0, _PREAMBLE.size))
    if magic != MAGIC:
        raise BadFile(f"{name} is not a routes file", f"it begins with {magic!r}", "give a file of routes")
    if version != VERSION:
        raise Unsupported(f"{name} has version {version} of the routes format", f"version {VERSION} is read")
    if nbytes > MAX_HEADER_NBYTES:
        raise LimitExceeded(f"the header of {name} is too large", nbytes=nbytes, limit=MAX_HEADER_NBYTES)
    values = parse_json_bounded(_take(source, _PREAMBLE.size, nbytes), f"the header of {name}", max_depth=2)
    if faults := _faults(values):
        raise BadFile(f"the header of {name} is refused", faults, _HINT)
    shape = RoutesShape(**{**values, "layers": tuple(values["layers"])})
    return shape, _PREAMBLE.size + nbytes


def _take(source: SourceFile, offset: int, nbytes: int) -> bytes:
    if offset + nbytes > source.size:
        raise Truncated(
            f"{source.path.name} ends inside its header",
            hint="the file is cut off; copy or record it again",
            need=offset + nbytes,
            file_size=source.size,
        )
    data = bytearray(nbytes)
    source.read_into(memoryview(data), offset)
    return bytes(data)


def _faults(values: Any) -> str:
    """What is wrong with a header; empty if nothing is."""
    names = {field.name for field in fields(RoutesShape)}
    if not isinstance(values, dict) or values.keys() != names:
        return f"it must be an object of {', '.join(sorted(names))}"
    if not isinstance(values["model"], str) or not isinstance(values["gates"], bool):
        return "model is text, gates is true or false"
    layers = values["layers"]
    if not isinstance(layers, list) or not 1 <= len(layers) <= MAX_LAYERS:
        return f"layers is a list of 1 to {MAX_LAYERS} numbers"
    if not all(_within(layer, 0, MAX_LAYERS) for layer in layers) or sorted(set(layers)) != layers:
        return "layers are numbers that rise"
    if not _within(values["num_experts"], 1, MAX_EXPERTS):
        return f"num_experts is 1 to {MAX_EXPERTS}"
    if not _within(values["top_k"], 1, values["num_experts"]):
        return "top_k is 1 to num_experts"
    if not _within(values["hidden"], 0, MAX_HIDDEN):
        return f"hidden is 0 to {MAX_HIDDEN}"
    nbytes = len(layers) * (4 * values["top_k"] + 2 * values["hidden"])
    return "" if nbytes <= MAX_RECORD_NBYTES else f"a token would take {nbytes} bytes"


def _within(value: object, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high
