"""Settings: declared in one table, each with its value and the origin of that value.

A flag wins over the environment, the environment over `./apportion.toml`, that over the user's own
`config.toml`, and that over the default. A name that is not in the table is an error, never ignored.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar

from apportion.core.errors import UsageError, closest, unknown
from apportion.core.setting_kinds import SWITCH, Kind, Secret, folder, secret, whole_number, word

T = TypeVar("T")

PREFIX = "APPORTION_"
PROJECT_FILE = "apportion.toml"
MAX_FILE_NBYTES = 1024**2
_FILE_HINT = "correct the file, or remove it"


class Origin(StrEnum):
    """Where a value came from, strongest first."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """One declared setting. `default` is a function, since some depend on the machine."""

    name: str
    kind: Kind[T]
    default: Callable[[], T]
    sentence: str

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return PREFIX + self.name.upper()


@dataclass(frozen=True, slots=True)
class Value(Generic[T]):
    """A setting's value, and where it stands: the flag, the variable or the file; empty for a default."""

    setting: Setting[T]
    value: T
    origin: Origin
    place: str


def _models_dir() -> Path:
    import platformdirs  # milliseconds that only those who look at the folder pay

    return platformdirs.user_cache_path("apportion", appauthor=False) / "models"


def _kv_dir() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("apportion", appauthor=False) / "kv"


def _default(value: T) -> Callable[[], T]:
    return lambda: value


THREADS: Setting[int | None] = Setting(
    "threads",
    whole_number(1, 1024),
    _default(None),
    "Threads that compute; unset: one per core that we may use.",
)
OFFLINE: Setting[bool] = Setting(
    "offline", SWITCH, _default(False), "Never use the network; what is not on this machine is an error."
)
MODELS_DIR: Setting[Path] = Setting(
    "models_dir", folder(), _models_dir, "Where models that apportion obtains are kept."
)
KV_DIR: Setting[Path] = Setting(
    "kv_dir", folder(), _kv_dir, "Where keys and values of earlier requests are kept on disk (--kv-disk)."
)
ISA: Setting[str | None] = Setting(
    "isa", word(), _default(None), "Instruction set of the kernels; unset: the best that the processor has."
)
DEBUG: Setting[bool] = Setting("debug", SWITCH, _default(False), "Show the Python traceback of every error.")
API_KEYS: Setting[Secret] = Setting(
    "api_keys", secret(), _default(Secret()), "Keys, one of which must come with each request to a server."
)
ADMIN_KEY: Setting[Secret] = Setting(
    "admin_key",
    secret(),
    _default(Secret()),
    "The key of a server's admin; unset: there is none.",
)

SETTINGS: Mapping[str, Setting[Any]] = {
    s.name: s for s in (THREADS, OFFLINE, MODELS_DIR, KV_DIR, ISA, DEBUG, API_KEYS, ADMIN_KEY)
}

_flags: tuple[Mapping[str, Any], ...] = ()


def get(setting: Setting[T]) -> T:
    """The setting's value.

    Raises:
        UsageError: the strongest origin holds something of another kind, or a settings file is not TOML or
            names an unknown setting.
    """
    return locate(setting).value


def locate(setting: Setting[T]) -> Value[T]:
    """The setting's value and its origin; raises what `get` raises."""
    for given in reversed(_flags):
        if setting.name in given:
            return Value(setting, given[setting.name], Origin.FLAG, "--" + setting.name.replace("_", "-"))
    text = os.environ.get(setting.variable, "")
    if text:
        return Value(
            setting, _read(setting, text, setting.variable, Path.cwd()), Origin.ENVIRONMENT, setting.variable
        )
    for path in files():
        content = read_file(path)
        if setting.name in content:
            value = _read(setting, content[setting.name], str(path), path.parent)
            return Value(setting, value, Origin.FILE, str(path))
    return Value(setting, setting.default(), Origin.DEFAULT, "")


@contextmanager
def override(**values: object) -> Iterator[None]:
    """Inside the block these settings have these values, as if given as flags; None means not given.

    Raises:
        UsageError: an unknown name, or a value of another kind.
    """
    global _flags
    given = {
        name: _read(_named(name), value, name, Path.cwd())
        for name, value in values.items()
        if value is not None
    }
    before, _flags = _flags, (*_flags, given)
    try:
        yield
    finally:
        _flags = before


def files() -> tuple[Path, ...]:
    """The settings files that are looked at, stronger first, whether they exist or not."""
    import platformdirs

    user = platformdirs.user_config_path("apportion", appauthor=False) / "config.toml"
    return (Path.cwd() / PROJECT_FILE, user)


def read_file(path: Path) -> Mapping[str, object]:
    """The settings that a file holds, unread; none if there is no such file."""
    import tomllib

    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_NBYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(
            f"cannot read {path}", error.strerror or str(error), "check its permissions"
        ) from error
    if len(data) > MAX_FILE_NBYTES:
        raise UsageError(f"{path} is no settings file", "it is too large", _FILE_HINT, limit=MAX_FILE_NBYTES)
    try:
        content = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, or nested without end
        raise UsageError(f"{path} is not TOML", str(error), _FILE_HINT) from error
    for name in content:
        if name not in SETTINGS:
            wrong = unknown("setting", name, SETTINGS)
            raise UsageError(f"{wrong.what} in {path}", wrong.why, wrong.hint)
    return content


def unknown_variables() -> dict[str, str | None]:
    """Environment variables that look like ours and are not, each with the one that was probably meant."""
    ours = {setting.variable for setting in SETTINGS.values()}
    strays: dict[str, str | None] = {}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in ours:
            near = closest(name.removeprefix(PREFIX), SETTINGS)
            strays[name] = SETTINGS[near].variable if near else None
    return strays


def _named(name: str) -> Setting[Any]:
    if name not in SETTINGS:
        raise unknown("setting", name, SETTINGS, UsageError)
    return SETTINGS[name]


def _read(setting: Setting[T], raw: object, place: str, base: Path) -> T:
    try:
        return setting.kind.read(raw, base)
    except ValueError as error:
        what = f"the setting {setting.name!r} cannot be {str(raw)[:80]!r}"
        raise UsageError(f"{what} ({place})", str(error), f"give {setting.kind.words}") from error
