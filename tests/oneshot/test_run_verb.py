"""``fwlocal run`` as a script meets it: files, conversations, events, errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fwlocal.cli.run_options import MOST_LOGPROBS
from fwlocal.engine import MAX_LOGPROBS
from fwlocal.files import sha256_of
from tests.conftest import Run
from tests.here import one_line


def test_a_prompt_may_have_several_words(record: Any) -> None:
    assert record("two", "words")["messages"][-1]["content"] == "two words"


def test_files_go_along(record: Any) -> None:
    found = record("Sum up", "-f", "src/*.py", stdin="more\n")

    assert found["messages"] == [
        {
            "role": "user",
            "content": "# src/a.py\n\n```\nthe sea\n```\n\n"
            "# src/b.py\n\n```\nthe whale sings\n```\n\nSum up\n\nmore",
        }
    ]


def test_files_alone_are_a_prompt(ask: Run) -> None:
    assert ask("-f", "src/a.py").returncode == 0


def test_a_dry_run_says_what_each_file_takes(ask: Run, record: Any, tiny_gguf: Path) -> None:
    arguments = ("Sum up", "-f", "src/*.py")
    budget = json.loads(ask("--dry-run", "--json", *arguments).stdout)
    tokens = {part["name"]: part["tokens"] for part in budget["parts"]}

    assert 0 < tokens["src/a.py"] < tokens["src/b.py"]
    assert sum(tokens.values()) == budget["prompt_tokens"] == record(*arguments)["prompt_tokens"]
    assert (budget["n_ctx"], budget["fits"]) == (512, True)
    assert (
        "fewer than --max-tokens 510" in ask("--dry-run", "--max-tokens", "510", *arguments).stdout
    )
    shown = ask("--dry-run", *arguments)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert [line.split()[-1] for line in shown.stdout.splitlines()][1:4] == [
        "src/a.py",
        "src/b.py",
        "prompt",
    ]


def test_a_dry_run_tells_what_does_not_fit(ask: Run, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("x" * 600)

    done = ask("--dry-run", "Sum up", "-f", "*.txt")

    assert done.returncode == 1
    assert "more than it holds" in done.stdout
    assert one_line(done.stderr)
    assert "the largest part is long.txt" in done.stderr


def test_an_answer_ends_before_a_stop_text(ask: Run, record: Any) -> None:
    whole = record("hi", "--temp", "0")["text"]
    stop = whole[len(whole) // 2 :][:2]

    cut = record("hi", "--temp", "0", "--stop", "never said", "--stop", stop)

    assert cut["text"] == whole[: whole.index(stop)]
    assert (cut["finish_reason"], cut["stop"]) == ("stop", ["never said", stop])


def test_a_stop_text_ends_a_raw_answer_too(record: Any) -> None:
    whole = record("--raw", "hi", "--temp", "0")["text"]

    assert record("--raw", "hi", "--temp", "0", "--stop", whole[1])["text"] == whole[:1]


def test_an_answer_that_was_cut_fails_where_it_must_not_be(ask: Run) -> None:
    done = ask("--fail-on-length", "--quiet", "hi")

    assert done.returncode == 1
    assert done.stdout
    assert one_line(done.stderr)
    assert "the answer was cut after 6 tokens" in done.stderr


def test_quiet_leaves_notices_out(ask: Run) -> None:
    arguments = ("--n-gpu-layers", "1", "hi")  # which there are not

    assert one_line(ask(*arguments).stderr)
    assert ask(*arguments, "--quiet").stderr == ""


def test_several_answers_have_seeds_that_follow(ask: Run, record: Any) -> None:
    arguments = ("--n", "3", "--seed", "7", "--temp", "2", "hi")
    answers = record(*arguments)

    assert [answer["seed"] for answer in answers] == [7, 8, 9]
    assert len({answer["text"] for answer in answers}) > 1
    assert record(*arguments)[1]["text"] == answers[1]["text"]
    lines = ask(*arguments).stdout.split("\n")
    assert [line for line in lines if " of 3 ---" in line] == ["--- 2 of 3 ---", "--- 3 of 3 ---"]


def test_events_spell_the_answer(ask: Run, record: Any) -> None:
    lines = ask("--jsonl", "--temp", "0", "hi").stdout.split("\n")
    *pieces, end = [json.loads(line) for line in lines if line]

    assert {event["event"] for event in pieces} == {"piece"}
    assert "".join(event["text"] for event in pieces) == end["text"]
    assert end.keys() == {"event", "answer", *record("--temp", "0", "hi")}


def test_the_most_logprobs_are_the_engines() -> None:
    assert MOST_LOGPROBS == MAX_LOGPROBS


@pytest.mark.parametrize("form", ["--json", "--jsonl"])
def test_each_tokens_logprob_and_the_likeliest(ask: Run, form: str) -> None:
    lines = ask(form, "--temp", "0", "--logprobs", "3", "hi").stdout.split("\n")
    found = json.loads([line for line in lines if line][-1])

    said = b"".join(bytes(token["bytes"]) for token in found["logprobs"])
    assert said.decode("utf-8", "replace").startswith(found["text"].rstrip())
    for token in found["logprobs"]:
        assert len(token["top"]) == 3
        assert token["top"][0]["token"] == token["token"]  # greedy says the likeliest
        assert 0 >= token["logprob"] == token["top"][0]["logprob"] >= token["top"][1]["logprob"]


def test_an_answer_goes_on_from_its_record(ask: Run, record: Any, tmp_path: Path) -> None:
    first = ask("--json", "hi")
    (tmp_path / "a.json").write_text(first.stdout, encoding="utf-8")

    found = record("--messages", "a.json", "and then?")

    said = json.loads(first.stdout)["text"].rstrip()
    assert [message["content"] for message in found["messages"]] == ["hi", said, "and then?"]


def test_a_record_names_the_model_by_its_hash(record: Any, tiny_gguf: Path) -> None:
    assert record("hi")["model"]["sha256"] == sha256_of(tiny_gguf)


def conversation(*contents: str) -> str:
    roles = ("user", "assistant") * len(contents)
    return json.dumps([{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)])


def test_a_conversation_from_a_file_and_from_stdin(record: Any, tmp_path: Path) -> None:
    text = conversation("hi", "ho", "the sea")
    (tmp_path / "talk.json").write_text(text)

    asked = [
        record("--messages", "talk.json"),
        record("--messages", "-", stdin=text),
        record("--messages", "-", "the sea", stdin=conversation("hi", "ho")),
    ]

    assert [found["messages"] for found in asked] == [json.loads(text)] * 3


def test_a_conversation_has_its_own_system_text_or_the_options(record: Any) -> None:
    own = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]

    assert record("--messages", "-", stdin=json.dumps(own))["system"] == "be kind"
    assert record("--messages", "-", "--system", "s", stdin=json.dumps(own[1:]))["system"] == "s"


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (["x", "-f", "none/*.py"], 2, "none/*.py: matches no file"),
        (["x", "-f", "src"], 2, "src: is a folder"),
        (["x", "-f", "BIN"], 1, "is no text ("),
        (["x", "-f", "src/a.py", "src/b.py"], 2, "quote the pattern"),
        (["-f", "src/a.py", "src/b.py"], 2, "is the name of a file; quote the pattern"),
        (["a", "b.py", "-f", "src/a.py"], 2, "unexpected argument 'b.py': with -f, PROMPT is one"),
        (["x", "--stop", ""], 2, "--stop: the text is empty"),
        (["x", "--n", "2", "--temp", "0"], 2, "--n 2: at temperature 0 all answers are the same"),
        (["x", "--n", "0"], 2, "--n"),
        (["x", "--json", "--jsonl"], 2, "exclude each other"),
        (["x", "--quiet", "--stats"], 2, "exclude each other"),
        (["x", "--logprobs", "2"], 2, "--logprobs are told in JSON alone; add --json or --jsonl"),
        (["x", "--json", "--logprobs", "21"], 2, "--logprobs"),
        (["x", "--dry-run", "--n-ctx", "99999"], 2, "--n-ctx 99999: tiny.gguf takes"),
        (["x", "-f", "-"], 2, "-f -: what is piped in on stdin goes along anyway"),
        (["x", "--stop", "a\udcff"], 1, "--stop is not valid UTF-8"),
        (["x", "--system", "a\udcff"], 1, "--system is not valid UTF-8"),
        (["x", "--out", "o.jsonl"], 2, "--out goes with --batch IN.jsonl"),
        (["x", "--parallel", "2"], 2, "--parallel goes with --batch IN.jsonl"),
        (["--batch", "in.jsonl", "--parallel", "65"], 2, "--parallel"),
        (["--batch", "in.jsonl", "x"], 2, "--batch has the prompts; leave PROMPT out"),
        (["--batch", "in.jsonl", "-f", "a"], 2, "-f has no place beside --batch"),
        (["--batch", "in.jsonl", "--messages", "a"], 2, "--messages has no place beside"),
        (["--batch", "in.jsonl", "--n", "2"], 2, "--n has no place beside --batch"),
        (["--batch", "in.jsonl", "--dry-run"], 2, "--dry-run has no place beside --batch"),
        (["--batch", "in.jsonl", "--json"], 2, "--json has no place beside --batch"),
        (["--batch", "in.jsonl", "--logprobs", "2"], 2, "--logprobs has no place beside"),
        (["x", "--raw", "-f", "src/a.py"], 2, "leave -f out"),
        (["x", "--raw", "--messages", "-"], 2, "leave --messages out"),
        (["--messages", "none.json"], 1, "none.json: cannot be read"),
        (["--messages", "src/a.py"], 1, "src/a.py: is no valid JSON"),
        (["--messages", "-"], 2, "stdin: message 0: 'content' is a number, not a text"),
    ],
)
def test_errors_are_one_line(
    ask: Run, tiny_gguf: Path, arguments: list[str], exit_code: int, says: str
) -> None:
    named = [str(tiny_gguf) if argument == "BIN" else argument for argument in arguments]
    stdin = '[{"role": "user", "content": 1}]' if "-" in arguments else ""

    done = ask(*named, stdin=stdin)

    assert (done.returncode, done.stdout) == (exit_code, "")
    assert one_line(done.stderr), done.stderr
    assert says in done.stderr


def start(tiny_gguf: Path, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
    """``fwlocal run`` as a process, its streams as asked for."""
    command = [sys.executable, "-m", "fwlocal", "run", "-m", str(tiny_gguf), *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, **streams)


def test_a_reader_that_leaves_is_no_error(tiny_gguf: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with start(tiny_gguf, "hi", stdin=subprocess.DEVNULL, stdout=write) as process:
        os.close(write)
        _, told = process.communicate(timeout=60)

    assert (process.returncode, told) == (0, b"")


@pytest.mark.skipif(os.name == "nt", reason="the shell closes it")
def test_stdin_that_is_closed(tiny_gguf: Path) -> None:
    command = f'{sys.executable} -m fwlocal run -m "{tiny_gguf}" --max-tokens 3 hi <&-'
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout


@pytest.mark.skipif(os.name == "nt", reason="such signals are of Unix")
@pytest.mark.parametrize(("signum", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_what_was_said(
    tiny_gguf: Path, signum: signal.Signals, exit_code: int
) -> None:
    arguments = ("--jsonl", "--n", "9999", "--temp", "1", "hi")
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
    with start(tiny_gguf, *arguments, **streams) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signum)
        out, told = process.communicate(timeout=60)

    assert (process.returncode, told) == (exit_code, b"")
    assert json.loads(out.splitlines()[-1])["event"] == "end"
