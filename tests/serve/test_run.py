"""The process from start to end: signals, and surroundings in which little is as usual."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from tests.models.tiny import tiny_gguf
from tests.serve.programs import program

from apportion.cli import main

LONG = {"prompt": "Once", "max_tokens": 240, "temperature": 0, "ignore_eos": True}
SHORT = {"prompt": "Once", "max_tokens": 3, "temperature": 0}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf("llama", tmp_path_factory.mktemp("models"))


def answers(url: str) -> bool:
    said = httpx.post(f"{url}/v1/completions", json=SHORT, timeout=30)
    return said.status_code == 200 and said.json()["usage"]["completion_tokens"] > 0


# --- surroundings ---


def read_only(folder: Path) -> str:
    folder.chmod(0o500)
    return str(folder)


# Several oddities at a time: starting a process takes longer than everything that it is asked.
SURROUNDINGS: dict[str, dict[str, Any]] = {
    "no home, no PATH, no folder for temporary files, no time zone, a proxy that is not there": {
        "env": {
            "HOME": None,
            "XDG_CACHE_HOME": None,
            "XDG_CONFIG_HOME": None,
            "XDG_DATA_HOME": None,
            "PATH": "",
            "TMPDIR": "/no/such/folder",
            "TZ": "No/Where",
            "http_proxy": "http://192.0.2.1:1",
            "FORWARDED_ALLOW_IPS": "*",
        }
    },
    "stdin and stdout closed, the locale C, a terminal that is none, uvicorn's own settings": {
        "stdin": None,
        "close": [0, 1],
        "env": {
            "LC_ALL": "C",
            "LANG": "C",
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",
            "TERM": "dumb",
            "COLUMNS": "0",
            "WEB_CONCURRENCY": "7",
            "UVICORN_PORT": "1",
        },
    },
    "a home that is not there, asyncio's debugging": {
        "env": {"HOME": "/no/such/home", "XDG_CACHE_HOME": None, "PYTHONASYNCIODEBUG": "1"}
    },
}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_it_serves_and_ends_well_in_odd_surroundings(name: str, model: Path) -> None:
    terms = dict(SURROUNDINGS[name])
    closing = terms.pop("close", [])
    if closing:
        terms["preexec_fn"] = lambda: [os.close(number) for number in closing]
    with program(model, **terms) as running:
        assert answers(running.ready())
        running.tell(signal.SIGTERM)
        assert running.ends() == 0, running.text
        assert "Traceback" not in running.text


CLOCK = """
import itertools, time
hours, true = itertools.cycle((0, -26, 3, -1, 40, -7)), time.time
time.time = lambda: true() + 3600 * next(hours)
"""


def test_the_time_of_day_may_jump_to_and_fro(model: Path, tmp_path: Path) -> None:
    """Every look at it jumps by hours. What waits and what has a deadline goes by another clock."""
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    options = ["--kv-disk", "10MiB", "--kv-dir", str(tmp_path / "kept"), "--keep-alive", "3600"]
    with program(model, *options, env={"PYTHONPATH": str(tmp_path)}) as running:
        url = running.ready()
        created = [httpx.post(f"{url}/v1/completions", json=SHORT).json()["created"] for _ in range(8)]
        assert max(created) - min(created) > 3600, "the clock did not jump"
        assert 0 <= httpx.get(f"{url}/v1/apportion/status").json()["uptime_s"] < 600
        assert answers(url)
        running.tell(signal.SIGTERM)
        assert running.ends() == 0, running.text


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system binds no process to a processor")
def test_one_processor_does_for_all_threads(model: Path) -> None:
    one = {min(os.sched_getaffinity(0))}
    with program(model, "--threads", "4", preexec_fn=lambda: os.sched_setaffinity(0, one)) as running:
        url = running.ready()
        assert all(answers(url) for _ in range(5))
        running.tell(signal.SIGTERM)
        assert running.ends() == 0, running.text


def test_a_disk_that_goes_away_takes_only_what_lay_on_it(tmp_path: Path) -> None:
    """Model and store are gone from where they lay: weights are in memory, and what was kept is computed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["--kv-disk", "10MiB", "--kv-dir", str(disk / "kept")]
    with program(tiny_gguf("llama", disk), *options) as running:
        url = running.ready()
        body = {**LONG, "prompt": "Once upon a time " * 5, "max_tokens": 20}
        before = httpx.post(f"{url}/v1/completions", json=body, timeout=30).json()["choices"]
        disk.rename(tmp_path / "elsewhere")
        for prompt in ("Something else " * 5, body["prompt"], "A third one " * 5, body["prompt"]):
            said = httpx.post(f"{url}/v1/completions", json=body | {"prompt": prompt}, timeout=30)
            assert said.status_code == 200, said.text
        assert said.json()["choices"] == before
        running.tell(signal.SIGTERM)
        assert running.ends() == 0, running.text
        assert "Traceback" not in running.text


def test_a_log_that_nobody_reads_any_more_is_no_hindrance(model: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with program(model, stderr=writing, text=False) as running:
        os.close(writing)
        said = b""
        while b"listening at http" not in said or not said.endswith(b"\n"):
            said += os.read(reading, 1000)
        os.close(reading)
        url = said.split(b"listening at ")[1].split()[0].decode()
        deadline = time.monotonic() + 30
        while httpx.get(f"{url}/ready").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert all(answers(url) for _ in range(3))
        running.tell(signal.SIGTERM)
        assert running.ends() == 0


def test_few_descriptors_mean_few_connections_and_a_home_is_not_written(model: Path, tmp_path: Path) -> None:
    env = {
        "HOME": read_only(tmp_path),
        "XDG_CACHE_HOME": None,
        "XDG_CONFIG_HOME": None,
        "XDG_DATA_HOME": None,
    }
    with program(model, files=64, env=env) as running:
        url = running.ready()
        host, port = url.removeprefix("http://").split(":")
        held = []
        for _ in range(60):
            one = socket.socket()
            one.settimeout(2)
            held.append(one)
            one.connect((host, int(port)))
        for one in held:
            one.close()
        time.sleep(0.2)
        assert answers(url)


# --- starting ---


def started(model: Path, *arguments: str) -> tuple[int, str]:
    """What becomes of a server that cannot start, without a process of its own."""
    said = CliRunner().invoke(main, ["serve", str(model), "--offline", "--port", "0", *arguments])
    return said.exit_code, said.output


def test_a_port_that_is_taken_ends_it_with_words(model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        status, text = started(model, "--port", str(taken.getsockname()[1]))
    assert status == 1
    assert "another program has the port" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "no key is set"),
        (["--host", "::"], "no key is set"),
        (["--host", "192.0.2.1", "--api-key", "long-enough-key"], "no address of this machine"),
        (["--host", "no.such.name.invalid", "--api-key", "long-enough-key"], "no address"),
        (["--api-key", "short"], "8 to 512 characters"),
        (["--api-key", "with space"], "printable ASCII"),
        (["--api-key-file", "/no/such/file"], "does not exist"),
        (["--limit", "quue=3"], "queue"),
        (["--limit", "queue=-3"], "queue"),
        (["--limit", "queue"], "--limit queue=64"),
        (["--limit", "receive_s=nan"], "receive_s"),
        (["--limit", "body_nbytes=many"], "8MiB"),
        (["--port", "65536"], "65536"),
        (["--drain", "-1"], "-1"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_loaded(
    arguments: list[str], words: str, model: Path
) -> None:
    status, text = started(model, *arguments)
    assert status in (1, 2)
    assert words in text
    assert "Traceback" not in text


# --- ending ---


def test_a_request_that_runs_comes_to_its_end_and_nothing_new_is_taken(model: Path) -> None:
    with program(model, "--drain", "20", "--log-format", "json") as running:
        url = running.ready()
        got: list[Any] = []
        body = LONG | {"stream": True, "n": 4}
        with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=30) as answer:
            pieces = answer.iter_text()
            got.append(next(pieces))
            running.tell(signal.SIGTERM)
            running.until(lambda: '"stopping"' in running.text)
            late = httpx.post(f"{url}/v1/completions", json=SHORT)
            ready = httpx.get(f"{url}/ready")
            got += list(pieces)
        assert "".join(got).endswith("data: [DONE]\n\n"), "what ran came to its end"
        assert (late.status_code, ready.status_code) == (503, 503)
        assert int(late.headers["retry-after"]) > 0
        assert running.ends() == 0
        events = [json.loads(line)["event"] for line in running.lines if line.startswith("{")]
        assert events[-1] == "ended"


def test_what_runs_for_too_long_is_cut_off(model: Path) -> None:
    with program(model, "--drain", "0") as running:
        url = running.ready()
        with httpx.stream(
            "POST", f"{url}/v1/completions", json=LONG | {"stream": True}, timeout=30
        ) as answer:
            next(answer.iter_text())
            began = time.monotonic()
            running.tell(signal.SIGTERM)
            assert running.ends() == 0
        assert time.monotonic() - began < 8
        assert "Traceback" not in running.text


def test_who_is_connected_and_silent_does_not_hold_up_the_end(model: Path) -> None:
    with program(model, "--drain", "20") as running:
        url = running.ready()
        host, port = url.removeprefix("http://").split(":")
        held = [socket.create_connection((host, int(port))) for _ in range(10)]
        held[0].sendall(b"POST /v1/comp")
        held[1].sendall(b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n")
        time.sleep(0.1)
        running.tell(signal.SIGINT)  # as Ctrl-C does
        began = time.monotonic()
        assert running.ends() == 0
        assert time.monotonic() - began < 10
        assert "Traceback" not in running.text
        for one in held:
            one.close()


def test_the_second_signal_ends_it_now(model: Path) -> None:
    numbers = (signal.SIGTERM, signal.SIGINT)
    with program(model, "--drain", "60") as running:
        url = running.ready()
        body = LONG | {"stream": True, "n": 8}
        with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=30) as answer:
            next(answer.iter_text())
            running.tell(numbers[0])
            running.until(lambda: "stopping" in running.text)
            running.tell(numbers[1])
            assert running.ends(5) == 128 + numbers[1]


def test_a_signal_while_a_model_is_loaded_ends_it_well(model: Path) -> None:
    with program(model) as running:
        assert running.url
        running.tell(signal.SIGTERM)
        assert running.ends() in (0, -signal.SIGTERM)
        assert "Traceback" not in running.text


def test_after_kill_it_starts_again_at_the_same_port(model: Path) -> None:
    with program(model) as running:
        url = running.ready()
        running.tell(signal.SIGKILL)
        running.ends()
    with program(model, "--port", url.rpartition(":")[2]) as running:
        assert answers(running.ready())


# --- reading again ---


def test_keys_and_limits_are_read_again_and_what_is_wrong_changes_nothing(
    model: Path, tmp_path: Path
) -> None:
    keys, limits = tmp_path / "keys", tmp_path / "limits.toml"
    keys.write_text("first-key-1\n# second-key-2\n")
    limits.write_text('body_nbytes = "1MiB"\n')

    def status(url: str, key: str, size: int = 1) -> int:
        body = {"prompt": "x" * size, "max_tokens": 1}
        headers = {"authorization": f"Bearer {key}"}
        return httpx.post(f"{url}/v1/completions", json=body, headers=headers, timeout=30).status_code

    def again(running: Any, words: str) -> None:
        before = running.text.count(words)
        running.tell(signal.SIGHUP)
        running.until(lambda: running.text.count(words) > before)

    with program(model, "--api-key-file", str(keys), "--limits-file", str(limits)) as running:
        url = running.ready()
        assert [status(url, "first-key-1"), status(url, "second-key-2")] == [200, 401]
        keys.write_text("second-key-2\n")
        limits.write_text("body_nbytes = 100\n")
        again(running, "was read again")
        assert [status(url, "first-key-1"), status(url, "second-key-2")] == [401, 200]
        assert status(url, "second-key-2", 200) == 413
        for wrong in ("", "short\n", "key with spaces\n"):
            keys.write_text(wrong)
            again(running, "stays as it was")
            assert [status(url, "first-key-1"), status(url, "second-key-2")] == [401, 200]
        keys.unlink()
        again(running, "stays as it was")
        assert status(url, "second-key-2") == 200
        assert "second-key-2" not in running.text
        assert str(tmp_path) not in running.text.split("listening", 1)[1]


def test_keys_come_from_flags_files_and_the_environment(model: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("from-a-file-1\n")
    env = {"APPORTION_API_KEYS": "from-env-11, from-env-22"}
    with program(model, "--api-key", "from-a-flag-1", "--api-key-file", str(keys), env=env) as running:
        url = running.url
        for key in ("from-a-flag-1", "from-a-file-1", "from-env-11", "from-env-22"):
            assert httpx.get(f"{url}/v1/models", headers={"x-api-key": key}).status_code == 200
        assert httpx.get(f"{url}/v1/models", headers={"x-api-key": "from-env-33"}).status_code == 401
        assert httpx.get(f"{url}/health").status_code == 200


# --- who started it ---


def test_the_service_manager_hears_when_it_serves_and_when_it_stops(model: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        name = f"\0apportion-test-{os.getpid()}"
        heard.bind(name)
        heard.settimeout(20)
        with program(model, env={"NOTIFY_SOCKET": "@" + name[1:]}) as running:
            words = [heard.recv(100)]
            while not words[-1].startswith(b"READY=1"):
                words.append(heard.recv(100))
            assert httpx.get(f"{running.url}/ready").status_code == 200
            running.tell(signal.SIGTERM)
            while not words[-1].startswith(b"STOPPING=1"):
                words.append(heard.recv(100))
            assert [word for word in words if word != b"WATCHDOG=1"] == [
                b"STATUS=loading",
                b"READY=1\nSTATUS=serving",
                b"STOPPING=1\nSTATUS=draining",
            ]
            assert running.ends() == 0


def test_ipv6_alone_will_do(model: Path) -> None:
    with program(model, "--host", "::1") as running:
        assert running.url.startswith("http://[::1]:")
        assert answers(running.ready())


def test_offline_it_opens_no_socket_but_the_one_it_listens_with(model: Path) -> None:
    with program(model) as running:
        url = running.ready()
        assert answers(url)
        descriptors = Path(f"/proc/{running.process.pid}/fd")
        held = []
        for one in descriptors.iterdir():
            with suppress(FileNotFoundError):  # closed since it was listed
                held.append(os.readlink(one))
        numbers = {name.removeprefix("socket:[").rstrip("]") for name in held if name.startswith("socket:")}
        states = {
            line.split()[9]: line.split()[3]
            for table in ("tcp", "tcp6", "udp", "udp6")
            for line in Path(f"/proc/{running.process.pid}/net/{table}").read_text().splitlines()[1:]
        }
        listening = [number for number in numbers if states.get(number) == "0A"]
        others = [states[number] for number in numbers if number in states and states[number] != "0A"]
        assert len(listening) == 1
        assert set(others) <= {"01", "06", "08"}, "nothing but what clients opened"
        assert not [number for number in numbers if states.get(number) == "02"], "nothing dials"
