"""A copy of a file on a loop device with a read-ahead of its own, for programs that map their files: what
suits them best is a setting of the device, and a loop device's is nobody else's.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from limited import forget

MARGIN_NBYTES = 64 << 20
METADATA_SHARE = 0.02  # of a file system without a journal and with few inodes


class NoLoop(Exception):
    """No copy could be mounted; the text says why."""


@contextmanager
def on_loop_device(path: Path, read_ahead_sectors: int) -> Iterator[Path]:
    """The copy of a file; it and its device are gone afterwards.

    Args:
        read_ahead_sectors: of 512 bytes, as for `blockdev --setra`.

    Raises:
        NoLoop: there is no room or no right for it.
    """
    nbytes = path.stat().st_size
    image_nbytes = int(nbytes * (1 + METADATA_SHARE)) + MARGIN_NBYTES
    if shutil.disk_usage(path.parent).free < image_nbytes + MARGIN_NBYTES:
        raise NoLoop(f"a copy of {image_nbytes / 1e9:.1f} GB has no room beside {path}")
    with ExitStack() as stack:
        try:
            folder = Path(
                stack.enter_context(tempfile.TemporaryDirectory(dir=path.parent, prefix="apportion-"))
            )
        except OSError as error:
            raise NoLoop(f"no folder can be made beside {path}: {error}") from error
        image, mount = folder / "image", folder / "mount"
        mount.mkdir()
        with image.open("wb") as stream:
            stream.truncate(image_nbytes)
        _call("mkfs.ext4", "-q", "-F", "-m", 0, "-O", "^has_journal", "-T", "largefile", image)
        device = _call("losetup", "--find", "--show", "--direct-io=on", image)
        stack.callback(_call, "losetup", "--detach", device)
        _call("blockdev", "--setra", read_ahead_sectors, device)
        _call("mount", device, mount)
        stack.callback(_call, "umount", mount)
        copy = mount / path.name
        shutil.copyfile(path, copy)
        forget(copy)
        yield copy


def _call(*words: object) -> str:
    try:
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise NoLoop(f"{words[0]} is not installed") from error
    except subprocess.CalledProcessError as error:
        raise NoLoop(f"{words[0]} failed: {error.stderr.strip()}") from error
    return done.stdout.strip()
