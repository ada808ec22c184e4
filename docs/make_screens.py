"""Makes the pictures of the documentation: `python docs/make_screens.py`, a few seconds each.

Each picture is what a command really printed on a terminal 100 columns wide, without the parts that
it wiped out again, except for the live table, of which the last full one is shown.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from io import StringIO
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

IMAGES = Path(__file__).with_name("images")
COLUMNS, ROWS = 100, 50
#: With what rich wipes a live table out, line by line, before it draws the next.
WIPING = re.compile(r"(?:\r?\x1b\[(?:1A|2K|\?25[lh]))+\r?")
#: A run that is long enough for rates and percentiles to be steady.
DEMO = ("demo", "--seconds", "6")


def printed_on_a_terminal(*arguments: str) -> str:
    """Runs `streamatiq` on a terminal of its own and returns all that it wrote there.

    Raises:
      RuntimeError: Its exit code is not 0.
    """
    command = Path(sys.executable).with_name("streamatiq")
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
        os.environ.pop("NO_COLOR", None)
        os.execv(command, [str(command), *arguments])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    output = b""
    while True:
        try:
            piece = os.read(terminal, 65_536)
        except OSError:  # how Linux says that nobody has the other end open any more
            break
        if not piece:
            break
        output += piece
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise RuntimeError(f"streamatiq {' '.join(arguments)} failed:\n{output.decode()}")
    return output.decode().replace("\r\n", "\n")


def demo_picture(output: str) -> str:
    """The start, one live table of the middle, and the closing report, as escape sequences."""
    *frames, rest = WIPING.split(output)
    middle = next(frame for frame in frames if "5 of 6 s" in frame)
    return "\n".join([frames[0].rstrip(), "", middle.strip("\n"), "", rest.strip("\n")])


def save(picture: str, command: str, path: Path) -> None:
    """Writes an SVG of `picture`."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}", style="bold"))
    console.print(Text.from_ansi(picture))
    # Without the fonts that it would load from elsewhere; the reader's own monospace will do.
    template = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    console.save_svg(str(path), title=command, code_format=template)


def main() -> None:
    """Makes all pictures."""
    IMAGES.mkdir(exist_ok=True)
    output = printed_on_a_terminal(*DEMO)
    save(demo_picture(output), f"streamatiq {' '.join(DEMO)}", IMAGES / "demo.svg")


if __name__ == "__main__":
    main()
