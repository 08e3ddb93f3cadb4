"""The README's pictures: the program in a pseudo-terminal, its screen drawn as SVG.

``python -m tests.draw_pictures FOLDER`` draws them anew; nothing in them is typed by hand.
"""

from __future__ import annotations

import io
import itertools
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

from fwlocal.loader import Library, open_file
from fwlocal.registry import DEFAULT_MODEL
from tests.convert.checkpoints import write_checkpoint
from tests.hub_server import HubServer
from tests.terminal import Terminal
from tests.tiny_llama import Shape

COLUMNS = 96
MADE = ("Q4_K_M", "Q8_0")
LLAMA = Shape(1024, 2816, 4, 16, 4, vocab_size=16384)
QUIET_S = 3.0  # a screen that has not changed for so long is finished
COLOURS = {"default": "white", "brown": "yellow", "brightblack": "bright_black"}


def screen(
    program: str, rows: int, typed: Sequence[str] = (), keys: str = "", **env: str
) -> pyte.Screen:
    """The screen once ``program`` has run, has answered every line ``typed``, and ``keys`` were
    pressed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    steps = program.split("; ")
    shell = "; ".join(f"printf '%s\\n' '$ {step}'; {step}" for step in steps)
    command = ["/bin/sh", "-c", shell]
    with Terminal(command, columns=COLUMNS, rows=rows, env={"PATH": path, **env}) as terminal:
        terminal.settle(QUIET_S)
        for line in typed:
            terminal.send(line)
            terminal.settle(QUIET_S)
        terminal.type(keys)
        terminal.settle(QUIET_S)
        return terminal.screen


def draw(display: pyte.Screen, title: str, path: Path) -> None:
    """Write the screen as an SVG."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    lines = [_line(display, row) for row in range(display.lines)]
    while lines and not lines[-1].plain:
        lines.pop()
    console.print(*lines, sep="\n")
    svg = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title=title), flags=re.DOTALL)
    path.write_text(svg, encoding="utf-8")


def _line(display: pyte.Screen, row: int) -> Text:
    line = Text()
    cells = [display.buffer[row][column] for column in range(display.columns)]
    for (foreground, bold), run in itertools.groupby(cells, lambda cell: (cell.fg, cell.bold)):
        is_rgb = re.fullmatch("[0-9a-f]{6}", foreground)
        colour = f"#{foreground}" if is_rgb else COLOURS.get(foreground, foreground)
        line.append("".join(cell.data for cell in run), Style(color=colour, bold=bold))
    line.rstrip()
    return line


def draw_chats(folder: Path) -> None:
    """The chat: answers, the menu of commands, and two levels side by side."""
    questions = [
        "What is the capital of France?",
        "Write a Python function that adds two numbers.",
        "/tokens",
    ]
    program = "fwlocal chat --stats --temp 0"
    draw(screen(program, 44, questions), "fwlocal chat", folder / "chat.svg")
    menu = screen("fwlocal chat", 14, ["What is the capital of France?"], keys="/s\t")
    draw(menu, "fwlocal chat", folder / "commands.svg")
    with tempfile.TemporaryDirectory() as temporary:
        before = Path.cwd()
        small = [requantized(Path(temporary), level) for level in ("Q8_0", "Q4_0")]
        os.chdir(temporary)
        program = f"fwlocal chat -m {small[0].name} --prompt-format freewilly2 --max-tokens 60"
        typed = ["What is a whale?", f"/ab {small[0].name} {small[1].name}", "2"]
        draw(screen(program, 34, typed), "fwlocal chat", folder / "ab.svg")
        os.chdir(before)


def requantized(folder: Path, level: str) -> Path:
    """The default model at another level, by llama.cpp's own quantizer."""
    import llama_cpp

    source = open_file(DEFAULT_MODEL, Library.default())[0].path
    path = folder / f"SmolLM2-{level}.gguf"
    params = llama_cpp.llama_model_quantize_default_params()
    params.allow_requantize = True
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{level}")
    if llama_cpp.llama_model_quantize(bytes(source), bytes(path), params):
        raise SystemExit(f"{path}: llama.cpp could not make it")
    return path


def main() -> None:
    """Draw all pictures."""
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as chats:
        os.environ |= {"FWLOCAL_SESSIONS": chats, "FWLOCAL_HISTORY": f"{chats}/history.jsonl"}
        draw_chats(folder)
    pipe = 'echo "The sea is blue and deep." | fwlocal run "Say this in other words" --stats'
    draw(screen(pipe, 24), "fwlocal run", folder / "run.svg")
    program = "fwlocal plan freewilly2:Q4_K_M --gpu-memory 24G,16G --ram 64G"
    draw(screen(program, 17), "fwlocal plan", folder / "plan.svg")
    draw(screen("fwlocal models", 14), "fwlocal models", folder / "models.svg")
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        write_checkpoint(Path("MyLlama"), LLAMA, dtype="BF16", shards=2)
        convert = f"fwlocal convert ./MyLlama --quant {','.join(MADE)}"
        program = f"{convert} --dry-run; {convert}; fwlocal verify MyLlama-Q4_K_M.gguf"
        draw(screen(program, 24), "fwlocal convert", folder / "convert.svg")
        with HubServer() as hub:
            hub.add("whales/Orca", {path.name: path for path in Path("MyLlama").iterdir()})
            ready = {f"Humpback.{one}.gguf": Path(f"MyLlama-{one}.gguf") for one in MADE}
            hub.add("whales/Humpback-GGUF", dict(ready))
            os.environ |= {"FWLOCAL_HOME": "models", "HF_ENDPOINT": hub.endpoint}
            program = "fwlocal pull whales/Humpback-GGUF; fwlocal pull whales/Orca:Q5_K_M"
            draw(screen(f"{program}; fwlocal list", 24), "fwlocal pull", folder / "pull.svg")


if __name__ == "__main__":
    main()
