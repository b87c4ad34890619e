"""The frame around the verbs: help, failures, exit statuses."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from apportion.cli import _group, main
from apportion.cli._failures import printable
from apportion.cli._group import summary, verb_files, wants_json
from apportion.core.errors import ContextOverflow


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Give the frame a verb `probe` that does what the test says."""

    def install(action: Callable[[], object]) -> None:
        command = click.Command(
            "probe",
            callback=lambda as_json: action(),
            params=[click.Option(["--json", "as_json"], is_flag=True)],
        )
        monkeypatch.setattr(_group, "verb_files", lambda: {"probe": Path("probe.py")})
        monkeypatch.setattr(type(main), "get_command", lambda self, ctx, name: command)

    return install


def failing(error: BaseException) -> Callable[[], object]:
    def action() -> object:
        raise error

    return action


def test_every_verb_file_has_a_summary_that_fits_on_one_line() -> None:
    for name, path in verb_files().items():
        assert 10 < len(summary(path)) < 90, name


def test_files_with_a_leading_underscore_are_no_verbs(tmp_path: Path) -> None:
    (tmp_path / "_options.py").write_text('"""Shared."""')
    (tmp_path / "two_words.py").write_text('"""Do something. Really.\n\nMore.\n"""')
    files = verb_files(tmp_path)
    assert list(files) == ["two-words"]
    assert summary(files["two-words"]) == "Do something. Really"


def commands() -> list[tuple[str, click.Command]]:
    """Every verb, and every verb of a group of them."""
    found = []
    for name in verb_files():
        command = main.get_command(click.Context(main), name)
        assert command is not None
        found.append((name, command))
        if isinstance(command, click.Group):
            found += [(f"{name} {sub}", one) for sub, one in command.commands.items()]
    return found


def test_every_verb_has_json_and_a_help_text() -> None:
    for name, command in commands():
        assert command.help, name
        if not isinstance(command, click.Group) or command.invoke_without_command:
            assert any("--json" in param.opts for param in command.params), name
        for param in command.params:
            assert isinstance(param, click.Argument) or getattr(param, "help", None), (name, param.name)


def test_help_imports_no_verb_and_nothing_heavy() -> None:
    code = (
        "import sys; from apportion.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'rich', 'jinja2', 'tokenizers', 'huggingface_hub', 'apportion.engine'}\n"
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--version" in done.stdout


def test_help_takes_less_than_300_ms_of_processor_time() -> None:
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-c", "from apportion.cli import main; main(['--help'])"],
            check=True,
            capture_output=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(4)) < 0.3


def test_version_is_printed(apportion) -> None:
    outcome = apportion("--version")
    assert outcome.status == 0
    assert outcome.out.startswith("apportion ")


def test_a_misspelled_verb_gets_a_suggestion(apportion, verb) -> None:
    verb(lambda: None)
    outcome = apportion("prob")
    assert outcome.status == 2
    assert outcome.out == ""
    assert "did you mean 'probe'?" in outcome.err


def test_an_error_says_what_why_and_hint_on_stderr(apportion, verb) -> None:
    verb(failing(ContextOverflow("too long", "the prompt has more tokens", "raise --ctx", need=10, have=4)))
    outcome = apportion("probe")
    assert outcome.status == 1
    assert outcome.out == ""
    assert outcome.err.splitlines() == [
        "error: too long",
        "  why: the prompt has more tokens (need=10, have=4)",
        "  hint: raise --ctx",
    ]


def test_an_error_in_json_mode_is_one_object_on_stdout(apportion, verb) -> None:
    verb(failing(ContextOverflow("too long", need=10)))
    outcome = apportion("probe", "--json")
    assert outcome.status == 1
    assert outcome.object["error"]["code"] == "context_overflow"
    assert outcome.object["error"]["numbers"] == {"need": 10}


def test_a_faulty_command_line_in_json_mode_is_an_object_too(apportion, verb) -> None:
    verb(lambda: None)
    outcome = apportion("probe", "--json", "--nonsense")
    assert outcome.status == 2
    assert outcome.object["error"]["code"] == "usage"
    assert "--nonsense" in outcome.object["error"]["what"]


@pytest.mark.parametrize("words", [(), ("eval",)])
def test_a_group_without_a_verb_shows_its_help(apportion, words) -> None:
    outcome = apportion(*words)
    assert outcome.status == 2
    assert (outcome.out + outcome.err).startswith("Usage: apportion")


def test_an_unforeseen_failure_has_no_traceback_unless_asked_for(apportion, verb, monkeypatch) -> None:
    verb(failing(ZeroDivisionError("oh")))
    outcome = apportion("probe")
    assert outcome.status == 70
    assert "Traceback" not in outcome.err
    assert "ZeroDivisionError: oh" in outcome.err
    assert "APPORTION_DEBUG=1" in outcome.err
    monkeypatch.setenv("APPORTION_DEBUG", "1")
    assert "Traceback" in apportion("probe").err


def test_a_missing_file_is_the_users_error_and_not_ours(apportion, verb) -> None:
    verb(lambda: Path("/nowhere/at/all").read_text())
    outcome = apportion("probe")
    assert outcome.status == 1
    assert "no such file: /nowhere/at/all" in outcome.err


def test_ctrl_c_exits_with_130(apportion, verb) -> None:
    verb(failing(KeyboardInterrupt()))
    assert apportion("probe").status == 130


def test_a_verb_may_choose_its_exit_status(apportion, verb) -> None:
    verb(lambda: 3)
    assert apportion("probe").status == 3


def test_a_reader_that_leaves_early_is_no_failure() -> None:
    code = "from apportion.cli import main; main(['--help'])"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    child.wait()


def test_a_verb_whose_reader_leaves_early_is_no_failure() -> None:
    """What it prints is more than a pipe holds."""
    code = (
        "import click; from apportion.cli import _group, main\n"
        "verb = click.Command('talk', callback=lambda: [click.echo('x' * 999) for _ in range(999)] and 0)\n"
        "_group.VerbGroup.get_command = lambda self, ctx, name: verb\n"
        "_group.verb_files = lambda: {'talk': None}\n"
        "main(['talk'])"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.read(10)
    child.stdout.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait() == 0


def test_a_table_whose_reader_has_left_is_no_failure() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "apportion", "config"]
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_failure(closed: str) -> None:
    code = "from apportion.cli import main; main(['config', '--json'])"
    command = f'"$0" -c "$1" {closed}'
    done = subprocess.run(["bash", "-c", command, sys.executable, code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (">&-" not in closed.replace("2>&-", ""))


def test_control_characters_from_files_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[31mb") == "a\\x1b[31mb"


def test_json_after_a_double_dash_is_text() -> None:
    assert wants_json(["run", "--json", "m"])
    assert not wants_json(["run", "m", "--", "--json"])


def test_completion_offers_verbs_without_importing_them(monkeypatch, capsys) -> None:
    monkeypatch.setattr(_group, "verb_files", lambda: {"probe": Path(_group.__file__)})
    monkeypatch.setenv("_APPORTION_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "apportion pr")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit):
        main([])
    assert "plain,probe" in capsys.readouterr().out
