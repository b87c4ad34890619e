from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.core import settings
from apportion.core.errors import UsageError
from apportion.core.settings import (
    DEBUG,
    ISA,
    MODELS_DIR,
    OFFLINE,
    SETTINGS,
    THREADS,
    Origin,
    get,
    locate,
    override,
)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder and no variables of ours."""
    for name in [name for name in os.environ if name.startswith(settings.PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_user_file(text: str) -> Path:
    path = settings.files()[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_without_anything_said_a_setting_has_its_default() -> None:
    value = locate(THREADS)
    assert (value.value, value.origin, value.place) == (None, Origin.DEFAULT, "")
    assert get(OFFLINE) is False
    assert get(MODELS_DIR).name == "models"


def test_each_origin_wins_over_the_weaker_ones(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = write_user_file("threads = 1")
    assert (get(THREADS), locate(THREADS).place) == (1, str(user))
    (project / "apportion.toml").write_text("threads = 2")
    assert (get(THREADS), locate(THREADS).origin) == (2, Origin.FILE)
    monkeypatch.setenv("APPORTION_THREADS", "3")
    assert (get(THREADS), locate(THREADS).place) == (3, "APPORTION_THREADS")
    with override(threads=4):
        assert (get(THREADS), locate(THREADS).place) == (4, "--threads")
        assert locate(THREADS).origin is Origin.FLAG
    assert get(THREADS) == 3


def test_overrides_nest_and_end_also_after_an_error() -> None:
    with override(threads=1, offline=True):
        with pytest.raises(ZeroDivisionError), override(threads=2):
            raise ZeroDivisionError(get(THREADS), get(OFFLINE))
        assert (get(THREADS), get(OFFLINE)) == (1, True)
    assert (get(THREADS), get(OFFLINE)) == (None, False)


def test_a_flag_that_was_not_given_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPORTION_THREADS", "3")
    with override(threads=None):
        assert locate(THREADS).origin is Origin.ENVIRONMENT


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPORTION_THREADS", "")
    assert locate(THREADS).origin is Origin.DEFAULT


def test_an_unknown_override_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean 'threads'"), override(thread=1):
        pass


def test_an_unknown_key_in_a_file_is_refused_with_a_suggestion(project: Path) -> None:
    (project / "apportion.toml").write_text("tredas = 2")
    with pytest.raises(
        UsageError, match=r"unknown setting 'tredas' in .*apportion\.toml.*did you mean 'threads'"
    ):
        get(OFFLINE)


@pytest.mark.parametrize("content", [b"threads = ", b"\xff\xfe", b"a = " + b"[" * 100_000, b"#" * 1_048_577])
def test_a_file_that_is_no_settings_file_is_refused(project: Path, content: bytes) -> None:
    (project / "apportion.toml").write_bytes(content)
    with pytest.raises(UsageError, match=r"apportion\.toml"):
        get(THREADS)


def test_a_file_that_cannot_be_read_is_refused(project: Path) -> None:
    (project / "apportion.toml").mkdir()
    with pytest.raises(UsageError, match="cannot read"):
        get(THREADS)


BAD_VALUES = [
    ("threads", "many"),
    ("threads", "0"),
    ("threads", "1025"),
    ("threads", "1.5"),
    ("threads", "9" * 30),
    ("offline", "perhaps"),
    ("models_dir", " "),
    ("isa", "avx 2"),
    ("isa", "-"),
]


@pytest.mark.parametrize(("name", "text"), BAD_VALUES)
def test_a_variable_of_another_kind_is_refused_with_a_hint(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTINGS[name].variable, text)
    with pytest.raises(UsageError) as caught:
        get(SETTINGS[name])
    assert SETTINGS[name].variable in caught.value.what
    assert SETTINGS[name].kind.words in caught.value.hint


@pytest.mark.parametrize(
    "line",
    [
        "threads = true",
        "threads = 2.0",
        "offline = 1",
        "models_dir = 3",
        "isa = 2",
        'models_dir = "a\\u0000"',
    ],
)
def test_a_file_value_of_another_kind_is_refused(project: Path, line: str) -> None:
    (project / "apportion.toml").write_text(line)
    with pytest.raises(UsageError, match=r"apportion\.toml"):
        get(SETTINGS[line.split()[0]])


@pytest.mark.parametrize("text", ["1", "TRUE", "yes", " on "])
def test_a_switch_understands_yes(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPORTION_OFFLINE", text)
    assert get(OFFLINE) is True


@pytest.mark.parametrize("text", ["0", "False", "no", "OFF"])
def test_a_switch_understands_no(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_user_file("offline = true")
    monkeypatch.setenv("APPORTION_OFFLINE", text)
    assert get(OFFLINE) is False


def test_a_folder_in_a_file_starts_from_that_file(project: Path) -> None:
    path = write_user_file('models_dir = "here"')
    assert get(MODELS_DIR) == path.parent / "here"


def test_a_folder_in_the_environment_starts_from_the_current_one(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPORTION_MODELS_DIR", "here")
    assert get(MODELS_DIR) == project / "here"
    monkeypatch.setenv("APPORTION_MODELS_DIR", "~/models")
    assert get(MODELS_DIR) == Path.home() / "models"
    with override(models_dir=Path("/absolute")):
        assert get(MODELS_DIR) == Path("/absolute")


def test_an_unknown_home_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPORTION_MODELS_DIR", "~no-such-user-here/models")
    with pytest.raises(UsageError, match="home folder"):
        get(MODELS_DIR)


def test_a_name_is_read_in_any_case() -> None:
    with override(isa="AVX512_VNNI"):
        assert get(ISA) == "avx512_vnni"


def test_variables_that_are_no_settings_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPORTION_THREDS", "3")
    monkeypatch.setenv("APPORTION_ZZZ", "3")
    monkeypatch.setenv("APPORTION_ISA", "avx2")
    assert settings.unknown_variables() == {"APPORTION_THREDS": "APPORTION_THREADS", "APPORTION_ZZZ": None}


def test_every_setting_is_declared_in_full() -> None:
    assert set(SETTINGS.values()) >= {THREADS, OFFLINE, MODELS_DIR, ISA, DEBUG}
    for name, setting in SETTINGS.items():
        assert setting.name == name
        assert setting.variable == f"APPORTION_{name.upper()}"
        assert setting.sentence.endswith(".")
        setting.default()


@given(
    st.sampled_from(sorted(SETTINGS)),
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=50),
)
def test_any_text_is_a_value_or_a_usage_error(name: str, text: str) -> None:
    try:
        with override(**{name: text}):
            get(SETTINGS[name])
    except UsageError as error:
        assert error.hint
