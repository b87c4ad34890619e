"""Run apportion in a terminal of its own and render what stands on the screen to docs/images/demo.svg.

    python docs/render_demo.py                      # the picture of the README
    python docs/render_demo.py --out x.svg -- models list

The output is real, the closing line's speeds are those of the machine it ran on. The picture loads nothing.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import select
import shlex
import struct
import sys
import termios
import time
from pathlib import Path

from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

HERE = Path(__file__).parent
DEFAULT = ["run", "smollm2", "Give me three tips for a good night's sleep.", "--temperature", "0"]
COLUMNS, ROWS = 92, 40
LIMIT_S = 300.0
DIM = [(59, 66, 82), (235, 111, 120), (152, 195, 121), (229, 192, 123)]
DIM += [(97, 175, 239), (198, 120, 221), (86, 182, 194), (216, 222, 233)]
BRIGHT = [(110, 120, 140), (245, 130, 138), (170, 210, 140), (240, 205, 140)]
BRIGHT += [(120, 190, 250), (210, 140, 230), (110, 200, 210), (255, 255, 255)]
NIGHT = TerminalTheme((23, 26, 33), (216, 222, 233), DIM, BRIGHT)
CONTROL = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b\][^\x07]*\x07|\x1b.|[\r\n\b]|[^\x1b\r\n\b]")


class Screen:
    """Lines of (style, character) cells; the few terminal controls that progress bars and answers use.

    Lines are kept as long as they are: the picture wraps them between words.
    """

    def __init__(self) -> None:
        self.lines: list[list[tuple[str, str]]] = [[]]
        self.row, self.column, self.style = 0, 0, ""

    def feed(self, text: str) -> None:
        for match in CONTROL.finditer(text):
            piece = match[0]
            if match[2]:
                self.control(match[1], match[2])
            elif piece == "\n":
                self.move_to(self.row + 1)
            elif piece == "\r":
                self.column = 0
            elif piece == "\b":
                self.column = max(0, self.column - 1)
            elif piece.isprintable():
                self.put(piece)

    def put(self, character: str) -> None:
        line = self.lines[self.row]
        line += [("", " ")] * (self.column + 1 - len(line))
        line[self.column] = (self.style, character)
        self.column += 1

    def control(self, numbers: str, kind: str) -> None:
        count = int(numbers) if numbers.isdecimal() else 1
        match kind:
            case "m":
                self.style = "" if numbers in ("", "0") else f"{self.style}\x1b[{numbers}m"
            case "A":
                self.row = max(0, self.row - count)
            case "B":
                self.move_to(self.row + count)
            case "C":
                self.column += count
            case "D":
                self.column = max(0, self.column - count)
            case "G":
                self.column = count - 1
            case "K":
                keep = 0 if numbers == "2" else self.column
                del self.lines[self.row][keep:]
            case "J":
                del self.lines[self.row][self.column :]
                del self.lines[self.row + 1 :]

    def move_to(self, row: int) -> None:
        self.row = row
        while len(self.lines) <= row:
            self.lines.append([])

    def text(self) -> Text:
        ansi = "\n".join(
            "".join(f"{style}{character}\x1b[0m" if style else character for style, character in line)
            for line in self.lines
        )
        return Text("\n").join(AnsiDecoder().decode(ansi.rstrip("\n")))


def run_in_terminal(words: list[str], screen: Screen) -> int:
    """Run apportion where it sees a terminal; its output goes to `screen`. Returns the exit status."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS), LINES=str(ROWS))
        os.execv(sys.executable, [sys.executable, "-m", "apportion", *words])  # noqa: S606 - our own program
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    deadline, held = time.monotonic() + LIMIT_S, b""
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 1.0)[0]:
            continue
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the program closed its end
            break
        # A character may be cut in two.
        held += data
        text = held.decode("utf-8", "ignore")
        held = held[len(text.encode()) :]
        screen.feed(text)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def shown_command(words: list[str]) -> str:
    """As one would type it, in double quotes where those do."""
    quoted = [
        f'"{word}"' if " " in word and not set(word) & set('"$`\\!') else shlex.quote(word) for word in words
    ]
    return " ".join(["apportion", *quoted])


def picture(command: str, screen: Screen) -> str:
    """The screen as an SVG that refers to nothing outside itself."""
    console = Console(width=COLUMNS, record=True, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    console.print(Text.assemble(("$ ", "bold green"), (command, "bold")), soft_wrap=False)
    console.print(screen.text(), soft_wrap=False)
    svg = console.export_svg(title="apportion", theme=NIGHT, unique_id="demo")
    svg = re.sub(r"\s*@font-face \{.*?\}\n", "\n", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace")
    assert "url(http" not in svg
    assert "@font-face" not in svg
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE / "images" / "demo.svg")
    parser.add_argument("words", nargs="*", default=DEFAULT, help="apportion's arguments, after --")
    given = parser.parse_args()
    screen = Screen()
    status = run_in_terminal(given.words, screen)
    if status:
        print(screen.text().plain, file=sys.stderr)
        return status
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(picture(shown_command(given.words), screen), encoding="utf-8")
    print(f"wrote {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
