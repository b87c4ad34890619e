"""The reader and its files: those that change, and what systems refuse."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.memory.reading import SIZE, MakeReader, read

from apportion.core.claim import Kind
from apportion.core.errors import BadFile, DiskFault, FileChanged, NotFound, Truncated
from apportion.core.units import KiB, MiB
from apportion.memory import Arena, Ledger, Part, Reader, ReadFault

# --- files that change ------------------------------------------------------------------------------------


def test_a_file_that_became_shorter_is_an_error_naming_it(
    make_reader: MakeReader, arena: Arena, path: Path
) -> None:
    reader = make_reader()
    file = reader.open(path)
    os.truncate(path, 8000)
    with pytest.raises(Truncated, match=str(path)) as caught:
        read(reader, arena, Part(file, 4000, 9000))
    assert (caught.value.numbers["need"], caught.value.numbers["have"]) == (9000, 4000)
    with pytest.raises(FileChanged):  # whole, but nobody knows of which state
        read(reader, arena, Part(file, 0, 7000))


def test_a_file_that_was_written_to_is_never_read_as_if_nothing_had_been(
    make_reader: MakeReader, arena: Arena, path: Path
) -> None:
    reader = make_reader()
    file = reader.open(path)
    with path.open("r+b") as stream:
        stream.write(b"other")
    os.utime(path)  # within the clock's tick the system may not have noted it
    with pytest.raises(FileChanged, match=str(path)):
        read(reader, arena, Part(file, 0, 9000))


@pytest.mark.parametrize("replace", [os.replace, lambda new, old: os.unlink(old)])
def test_a_file_that_was_replaced_or_removed_goes_on_as_it_was(
    make_reader: MakeReader, arena: Arena, path: Path, content: bytes, replace: Callable[[Path, Path], None]
) -> None:
    reader = make_reader()
    file = reader.open(path)
    new = path.with_name("new.bin")
    new.write_bytes(bytes(SIZE))
    replace(new, path)
    assert read(reader, arena, Part(file, 100, 9000)) == [content[100:9100]]


# --- opening, and what the system refuses -----------------------------------------------------------------


def test_what_is_no_file_is_refused(make_reader: MakeReader, tmp_path: Path) -> None:
    reader = make_reader()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadFile):
        reader.open(tmp_path / "pipe")
    with pytest.raises(BadFile):
        reader.open(tmp_path)
    with pytest.raises(NotFound):
        reader.open(tmp_path / "none")


def test_an_opened_file_tells_what_it_was(make_reader: MakeReader, path: Path) -> None:
    reader = make_reader()
    status = path.stat()
    opened = reader.file(reader.open(path))
    assert (opened.path, opened.nbytes) == (path, status.st_size)
    assert (opened.device, opened.inode, opened.modified_ns) == (
        status.st_dev,
        status.st_ino,
        status.st_mtime_ns,
    )


def test_a_file_system_that_refuses_direct_reads_is_read_through_the_cache_and_said_once(
    make_reader: MakeReader, arena: Arena, path: Path, content: bytes
) -> None:
    reader = make_reader(faults=[ReadFault(0, errno=errno.EINVAL)])
    file = reader.open(path)
    if not reader.file(file).direct:
        pytest.skip("needs a file system with direct reads")
    for _ in range(3):
        assert read(reader, arena, Part(file, 5, 9000)) == [content[5:9005]]
    assert not reader.file(file).direct
    assert [note for note in reader.notes if str(path) in note and "EINVAL" in note] == list(reader.notes)
    assert reader.stats().nbytes_buffered == reader.stats().nbytes_read > 0


def test_reading_through_the_cache_can_be_asked_for_and_needs_no_note(
    make_reader: MakeReader, arena: Arena, path: Path, content: bytes
) -> None:
    reader = make_reader(direct=False)
    file = reader.open(path)
    assert read(reader, arena, Part(file, SIZE - 9000, 9000)) == [content[-9000:]]
    assert not reader.file(file).direct
    assert reader.notes == ()


def cached_nbytes(path: Path) -> int:
    """Bytes of a file that the page cache holds."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED) as mapped:
        pages = ctypes.create_string_buffer(-(-SIZE // mmap.PAGESIZE))
        view = (ctypes.c_char * SIZE).from_buffer(mapped)
        assert libc.mincore(ctypes.addressof(view), SIZE, pages) == 0
        del view
        return sum(page & 1 for page in pages.raw) * mmap.PAGESIZE


@pytest.mark.parametrize("direct", [True, False])
def test_what_was_read_is_not_in_the_page_cache(
    make_reader: MakeReader, ledger: Ledger, path: Path, content: bytes, direct: bool
) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if cached_nbytes(path):
        pytest.skip("needs a file system whose cache can be emptied")
    reader = make_reader(direct=direct, chunk_nbytes=64 * KiB)
    file_number = reader.open(path)
    with Arena(ledger, Kind.EXPERT_SLOTS, 4 * MiB, 1) as arena:
        assert read(reader, arena, Part(file_number, 0, SIZE)) == [content]
    assert cached_nbytes(path) <= 64 * KiB


def test_a_file_system_that_refuses_to_open_directly_is_read_through_the_cache_and_said_once() -> None:
    refusing = Path("/proc/version")  # such a file system is everywhere
    if not refusing.exists():
        pytest.skip("needs /proc")
    with Reader() as reader:
        file = reader.open(refusing)
        assert not reader.file(file).direct
        assert [note for note in reader.notes if str(refusing) in note and "EINVAL" in note]


def test_where_the_kernel_gives_no_ring_threads_read_and_the_reader_says_so() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))  # no ring without a descriptor
    try:
        with Reader() as reader:
            assert reader.backend == "threads"
            assert ["EMFILE" in note and "threads" in note for note in reader.notes] == [True]
        with pytest.raises(DiskFault, match="EMFILE"):
            Reader(backend="ring")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_threads_can_be_asked_for_and_need_no_note() -> None:
    with Reader(backend="threads") as reader:
        assert reader.backend == "threads"
        assert reader.notes == ()
