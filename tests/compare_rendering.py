"""What rendering an answer costs: microseconds a token, and the share of decoding at 200 tok/s.

    python -m tests.compare_rendering

A 200-line answer with code and tables, four characters a token, each written to a null device.
"""

from __future__ import annotations

import argparse
import os
import time

from fwlocal.markdown import MarkdownWriter, PlainWriter

TOKEN = 4  # characters
SPEED = 200  # tok/s

SECTION = """\
## Step {n}: **what** to do

First read `config_{n}.toml`, then *think* about [the docs](https://docs.example/{n}) for a while; \
most of it is said there in a sentence or two, and the rest is **not so hard** to find out.

1. Install the `package_{n}`:
   - from the *index*, or
   - from source, which takes a little longer than one would think at first.
2. Run it.

```python
@dataclass(frozen=True)
class Step{n}:
    \"\"\"What step {n} needs.\"\"\"

    name: str = "step {n}"
    count: int = {n}

    def run(self, *args: str) -> list[str]:
        return [f"{{self.name}}: {{arg}}" for arg in args if arg]  # all of them
```

| Option | Default | What it does |
|:-------|--------:|--------------|
| `--n-{n}` | {n} | how many of them there **are** |
| `--long-option-{n}` | 0.{n} | something with a *longer* explanation |

> Keep in mind that step {n} may fail.

"""


def answer(n_lines: int = 200) -> str:
    """An answer of about that many lines."""
    text, n = "# An answer\n\n", 0
    while text.count("\n") < n_lines:
        n += 1
        text += SECTION.format(n=n)
    return text


def tokens(text: str) -> list[str]:
    """Pieces of the length of a token."""
    return [text[at : at + TOKEN] for at in range(0, len(text), TOKEN)]


def microseconds(writer: MarkdownWriter | PlainWriter, pieces: list[str]) -> tuple[float, float]:
    """Of the processor per token, on average, and of time for the slowest."""
    slowest = 0.0
    started = time.process_time()
    for piece in pieces:
        before = time.perf_counter()
        writer.feed(piece)
        slowest = max(slowest, time.perf_counter() - before)
    writer.end()
    return (time.process_time() - started) / len(pieces) * 1e6, slowest * 1e6


def measured(text: str, repeats: int) -> list[tuple[str, float, float]]:
    """The first answer of a chat, the best of those that follow, without colours, and as it is."""
    pieces = tokens(text)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:

        def write(part: str) -> None:
            nowhere.write(part)
            nowhere.flush()

        def markdown(color: bool) -> MarkdownWriter:
            return MarkdownWriter(write, width=lambda: 80, height=lambda: 24, color=color)

        first = microseconds(markdown(True), pieces)
        best = min(microseconds(markdown(True), pieces) for _ in range(repeats))
        plain = min(microseconds(markdown(False), pieces) for _ in range(repeats))
        raw = min(microseconds(PlainWriter(write), pieces) for _ in range(repeats))
    return [
        ("Markdown, first answer", *first),
        ("Markdown", *best),
        ("Markdown without colours", *plain),
        ("as it comes", *raw),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    text = answer(arguments.lines)
    print(f"{text.count(chr(10))} lines, {len(tokens(text))} tokens\n")
    print(f"| | µs/token | slowest | share at {SPEED} tok/s |")
    print("|---|---:|---:|---:|")
    for name, mean, slowest in measured(text, arguments.repeats):
        share = mean * SPEED / 1e6
        print(f"| {name} | {mean:.1f} | {slowest:.0f} | {share:.2%} |")


if __name__ == "__main__":
    main()
