"""`apportion chat`: through a pipe, and at a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Piped = Callable[..., object]


@pytest.fixture
def piped(apportion, tiny_path, monkeypatch: pytest.MonkeyPatch) -> Piped:
    """`piped("line", "line", flags=[...])`: a chat whose input is not a terminal."""

    def talk(*lines: str, flags: tuple[object, ...] = ()):
        data = "".join(line + "\n" for line in lines).encode()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), "utf-8"))
        return apportion("chat", tiny_path, "-t", 0, "-n", 6, *flags)

    return talk


def test_every_line_of_a_pipe_is_a_turn(piped) -> None:
    found = piped("hi", "", "yo", flags=("--json",)).object
    assert [turn["user"] for turn in found["turns"]] == ["hi", "yo"]
    assert all(turn["output_tokens"] <= 6 for turn in found["turns"])
    assert found["peak_rss_bytes"] > 0


def test_answers_go_to_stdout_without_prompts(piped) -> None:
    texts = [turn["text"] for turn in piped("hi", "yo", flags=("--json",)).object["turns"]]
    outcome = piped("hi", "yo")
    assert outcome.out == "".join(text + "\n" for text in texts)
    assert outcome.err == ""


def test_the_conversation_is_kept_and_its_prefix_is_not_computed_again(piped) -> None:
    first, second = piped("hi " * 20, "yo", flags=("--json",)).object["turns"]
    assert second["prompt_tokens"] > first["prompt_tokens"]
    assert second["cached_tokens"] == first["prompt_tokens"] // 32 * 32 > 0  # whole blocks


def test_a_backslash_continues_a_line_and_quotes_make_a_block(piped) -> None:
    turns = piped("one\\", "two", '"""', "a", "", "b", '"""', '"""c"""', flags=("--json",)).object["turns"]
    assert [turn["user"] for turn in turns] == ["one\ntwo", "a\n\nb", "c"]


def test_the_end_of_input_closes_a_block(piped) -> None:
    assert piped('"""', "a", "b", flags=("--json",)).object["turns"][0]["user"] == "a\nb"
    assert piped("a\\", flags=("--json",)).object["turns"][0]["user"] == "a"


def test_reset_forgets_and_regen_answers_again(piped) -> None:
    turns = piped("hi", "/regen", "/reset", "hi", flags=("--json",)).object["turns"]
    assert [turn["user"] for turn in turns] == ["hi", "hi", "hi"]
    assert len({turn["prompt_tokens"] for turn in turns}) == 1
    assert len({turn["text"] for turn in turns}) == 1


def test_the_system_message_is_set_and_shown(piped) -> None:
    outcome = piped("/system", "/system be brief", "/system")
    assert outcome.err.splitlines() == ["none is set", "be brief"]


def test_a_saved_conversation_can_be_loaded(piped, tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    whole = piped("hi", f"/save {path}", "yo", flags=("--json",)).object["turns"]
    saved = json.loads(path.read_text())["messages"]
    assert [message["role"] for message in saved] == ["user", "assistant"]
    loaded = piped(f"/load {path}", "yo", flags=("--json",)).object["turns"]
    assert loaded[0]["text"] == whole[1]["text"]


@pytest.mark.parametrize("content", ["nonsense", "{}", '{"messages": [{"role": 1, "content": "x"}]}', "[1]"])
def test_a_file_that_is_no_conversation_is_refused(piped, tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    assert piped(f"/load {path}", flags=("--json",)).object["error"]["code"] == "bad_file"


def test_commands_answer_on_stderr(piped) -> None:
    outcome = piped("/help", "/stats", "hi", "/stats", "/quit", "never said")
    assert "/regen" in outcome.err
    assert "nothing was answered yet" in outcome.err
    assert outcome.err.count("tok/s") == 2
    assert len(outcome.out.splitlines()) >= 1


def test_an_unknown_command_ends_a_pipe_with_a_suggestion(piped) -> None:
    outcome = piped("/rest", "hi")
    assert outcome.status == 2
    assert "did you mean 'reset'" in outcome.err


def test_a_turn_beyond_the_context_is_an_error_with_numbers(piped) -> None:
    outcome = piped("x" * 400, flags=("--json",))
    assert outcome.object["error"]["code"] == "context_overflow"


# A step takes long enough to be interrupted, however fast the machine.
UNHURRIED = """
import time
from apportion.cli import main
from apportion.engine import Stream

step = Stream.__next__
Stream.__next__ = lambda stream: time.sleep(0.02) or step(stream)
main()
"""


class Terminal:
    """The chat in a process of its own, at a terminal of its own."""

    def __init__(self, words: list[str]) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", UNHURRIED, *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=os.environ | {"TERM": "dumb"},
        )
        os.close(slave)
        self.seen = ""

    def until(self, text: str, seconds: float = 30) -> str:
        """Read until `text` appears; what came, up to and with it."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise AssertionError(f"{text!r} did not come, only {self.seen!r}")
            try:
                data = os.read(self.master, 4096)
            except OSError:  # the other end is closed
                data = b""
            if not data:
                raise AssertionError(f"{text!r} did not come before the end, only {self.seen!r}")
            self.seen += data.decode(errors="replace")
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def interrupt(self) -> None:
        # readline notices a signal that comes between its prompt and its wait only with the next key.
        time.sleep(0.3)
        self.process.send_signal(signal.SIGINT)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def terminal(tiny_path) -> Iterator[Terminal]:
    # Nothing ends this model but the context, and its answers are long enough to interrupt.
    one = Terminal(["chat", str(tiny_path), "-t", "0", "--ignore-eos", "--logit-bias", "65=1000"])
    try:
        one.until(">>> ")
        yield one
    finally:
        one.close()


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal: Terminal) -> None:
    terminal.type("hello\n")
    terminal.until("AAA")
    terminal.interrupt()
    terminal.until(">>> ")
    assert terminal.process.poll() is None
    terminal.type("/stats\n")
    terminal.until("cancelled")
    terminal.until(">>> ")
    terminal.type("\x04")
    assert terminal.process.wait(20) == 0


def test_ctrl_c_twice_at_the_prompt_leaves_and_typing_between_does_not(terminal: Terminal) -> None:
    terminal.interrupt()
    terminal.until("Ctrl-C again")
    terminal.until(">>> ")
    terminal.type("/system\n")
    terminal.until("none is set")
    terminal.until(">>> ")
    terminal.interrupt()
    terminal.until("Ctrl-C again")
    terminal.until(">>> ")
    terminal.interrupt()
    assert terminal.process.wait(20) == 0


def test_a_failed_turn_leaves_the_chat_open(terminal: Terminal) -> None:
    terminal.type("/rest\n")
    terminal.until("did you mean")
    terminal.until(">>> ")
    terminal.type("/quit\n")
    assert terminal.process.wait(20) == 0


def test_what_was_typed_is_kept_for_the_next_time_and_only_for_its_owner(terminal: Terminal) -> None:
    terminal.type("/system remember me\n")
    terminal.until(">>> ")
    terminal.type("/quit\n")
    terminal.process.wait(20)
    (history,) = Path(os.environ["XDG_DATA_HOME"]).rglob("chat_history")
    assert "/system remember me" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0
