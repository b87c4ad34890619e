"""One file of a checkpoint, open for reading: of known size, short reads completed, faults named."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from apportion.core.errors import BadFile, DiskFault, NotFound, Truncated
from apportion.formats.block import Bytes
from apportion.formats.checkpoint import TensorInfo


class SourceFile:
    """A regular file opened read-only.

    Raises:
        NotFound: there is no such file.
        BadFile: it is a directory, pipe or device.
        DiskFault: the operating system refused it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # O_NONBLOCK: opening a pipe must not wait for a writer that never comes.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self._fd = os.open(path, flags)
        except FileNotFoundError:
            raise NotFound(f"no such file: {path}", hint="check the path") from None
        except (OSError, ValueError) as error:
            raise DiskFault(f"cannot open {path}", str(error)) from error
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise BadFile(f"not a regular file: {path}", hint="give a model file")
        self.size = status.st_size

    def read_into(self, out: memoryview, offset: int) -> None:
        """Fill `out` from byte `offset` of the file on.

        Raises:
            Truncated: the file ends first.
            DiskFault: the operating system failed the read.
        """
        done = 0
        while done < len(out):
            try:
                count = os.preadv(self._fd, [out[done:]], offset + done)
            except OSError as error:
                raise DiskFault(
                    f"cannot read {self.path}", str(error), offset=offset + done, nbytes=len(out) - done
                ) from error
            if count == 0:
                raise Truncated(
                    f"{self.path.name} ends too early",
                    "it has become shorter since it was opened",
                    "copy or download it again",
                    file=str(self.path),
                    offset=offset + done,
                    missing=len(out) - done,
                )
            done += count

    def close(self) -> None:
        """Give the descriptor back; closing twice is allowed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_tensor(source: SourceFile, tensor: TensorInfo, out: Bytes, start: int) -> None:
    """Fill `out`, 1-D contiguous uint8, with the tensor's bytes from byte `start` on."""
    assert 0 <= start <= start + out.nbytes <= tensor.nbytes, (tensor.name, start, out.nbytes)
    source.read_into(out.data.cast("B"), tensor.offset + start)
