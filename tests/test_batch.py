"""``fwlocal run --batch``: a file of prompts becomes a file of answers, whatever happens to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.errors import StoreError, UsageError
from fwlocal.oneshot.batch_file import Before, appending, check_same_batch, cut_off, read_before
from fwlocal.oneshot.batch_lines import Asked, Bad, read_lines
from fwlocal.oneshot.batch_order import AHEAD, InOrder
from tests.conftest import Run
from tests.here import running_here


def only(line: dict[str, Any] | bytes, *, raw: bool = False) -> Asked | Bad:
    """What becomes of one line."""
    data = line if isinstance(line, bytes) else json.dumps(line).encode()
    (found,) = read_lines([data], raw=raw)
    return found


def error(line: dict[str, Any] | bytes, *, raw: bool = False) -> str:
    found = only(line, raw=raw)
    assert isinstance(found, Bad), found
    assert "\n" not in found.error
    return found.error


# Lines


def test_a_line_is_a_prompt_or_messages() -> None:
    prompt = only({"prompt": "Hi"})
    messages = only({"id": "a", "messages": [{"role": "user", "content": "Hi"}]})

    assert isinstance(prompt, Asked)
    assert isinstance(messages, Asked)
    assert prompt.turns == messages.turns
    assert (prompt.id, messages.id) == (1, "a")


def test_a_line_has_options_of_its_own() -> None:
    found = only({"prompt": "Hi", "seed": 7, "top_p": 1, "stop": "x", "max_tokens": 3, "id": 2.5})

    assert isinstance(found, Asked)
    assert found.sampling == {"seed": 7, "top_p": 1}
    assert (found.stop, found.max_tokens, found.id) == (("x",), 3, 2.5)


def test_a_schema_becomes_a_grammar() -> None:
    found = only({"prompt": "Hi", "json_schema": {"type": "boolean"}})

    assert isinstance(found, Asked)
    assert "root ::=" in found.sampling["grammar"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"nonsense", "no valid JSON"),
        (b"[1]", "a list, not an object"),
        (b'{"prompt": "\xff"}', "not UTF-8"),
        ({}, "either 'prompt' or 'messages'"),
        ({"prompt": "a", "messages": []}, "either 'prompt' or 'messages'"),
        ({"prompt": " "}, "'prompt' is empty"),
        ({"prompt": 3}, "'prompt' is 3, not a text"),
        ({"prompt": "a\0"}, "NUL"),
        ({"prompt": "a", "id": None}, "'id' is null, not a text or a number"),
        ({"prompt": "a", "id": True}, "'id' is true or false"),
        ({"prompt": "a", "top_k": 1.5}, "'top_k' is 1.5, not a whole number"),
        ({"prompt": "a", "temperature": "hot"}, "'temperature' is a text, not a number"),
        (b'{"prompt": "a", "temperature": NaN}', "'temperature' is nan, not a number"),
        ({"prompt": "a", "temperature": -1}, "temperature is -1; it must be between"),
        ({"prompt": "a", "max_tokens": 0}, "at least 1"),
        ({"prompt": "a", "stop": ["x", 1]}, "'stop' takes texts"),
        ({"prompt": "a", "stop": ""}, "'stop' takes texts"),
        ({"prompt": "a", "temp": 1}, "unknown key 'temp'; a line takes id, prompt"),
        ({"prompt": "a", "grammar": "g", "json_schema": {}}, "exclude each other"),
        ({"messages": [{"role": "bot", "content": "a"}]}, "'messages': message 0: 'role'"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "the user's"),
        (
            {"messages": [{"role": "system", "content": "a"}], "system": "b"},
            "the last message is the one to answer",
        ),
    ],
)
def test_a_wrong_line_says_what_is_wrong(line: dict[str, Any] | bytes, says: str) -> None:
    assert says in error(line)


def test_a_raw_prompt_is_a_prompt_alone() -> None:
    assert isinstance(only({"prompt": "<s>"}, raw=True), Asked)
    assert "give 'prompt'" in error({"messages": []}, raw=True)
    assert "leave 'system' out" in error({"prompt": "a", "system": "b"}, raw=True)


def test_an_id_comes_once() -> None:
    lines = [b'{"prompt": "a", "id": "x"}', b"", b'{"prompt": "b", "id": "x"}', b'{"prompt": "c"}']
    found = list(read_lines(lines))

    assert [type(line) for line in found] == [Asked, Bad, Asked]
    assert isinstance(found[1], Bad)
    assert found[1].error == 'the id "x" is that of line 1, too'
    assert found[2].id == 4  # blank lines count, too


def test_a_lines_own_id_may_be_the_number_of_another_line() -> None:
    lines = [b'{"prompt": "a"}', b'{"id": 1, "prompt": "b"}', b'{"prompt": "c"}']

    found = list(read_lines(lines))

    assert [one.id for one in found] == ["line 1", 1, 3]
    assert all(isinstance(one, Asked) for one in found)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
keys = st.sampled_from(["id", "prompt", "messages", "system", "stop", "seed", "top_k", "grammar"])


@given(st.lists(st.binary(max_size=30) | st.dictionaries(keys, json_values), max_size=5))
def test_no_line_stops_the_others(lines: list[bytes | dict[str, Any]]) -> None:
    data = [x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines]
    found = list(read_lines(data))

    assert len(found) == sum(bool(line.removeprefix(b"\xef\xbb\xbf").strip()) for line in data)


# Order


@given(st.permutations(range(12)))
def test_answers_go_out_in_the_order_of_the_input(order: list[int]) -> None:
    in_order = InOrder[int](3)
    out = [ready for index in order for ready in in_order.put(index, index)]

    assert out == list(range(12))
    assert in_order.n_out == 12


def test_no_answer_is_begun_far_ahead_of_the_oldest() -> None:
    in_order = InOrder[str](2)

    assert in_order.may_begin(2 * AHEAD - 1)
    assert not in_order.may_begin(2 * AHEAD)
    assert list(in_order.put(0, "a")) == ["a"]
    assert in_order.may_begin(2 * AHEAD)


# The file of answers


def answer_line(line_id: object, asked: str = "f", **more: object) -> str:
    return json.dumps({"id": line_id, "text": "t", "asked": asked, **more}) + "\n"


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(answer_line(1) + answer_line(2)[:-9])
    before = read_before(path)

    assert [record.id for record in before.records] == [1]
    assert cut_off(path, before)
    assert path.read_text() == answer_line(1)
    assert not cut_off(path, before)


@given(cut=st.integers(0, 200))
def test_wherever_it_was_torn_the_rest_is_whole(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = "".join(answer_line(f"ü{index}") for index in range(4)).encode()
    path = tmp_path_factory.mktemp("torn") / "out.jsonl"
    path.write_bytes(whole[:cut])
    cut_off(path, read_before(path))

    assert whole.startswith(path.read_bytes())
    assert path.read_bytes().count(b"\n") == whole[:cut].count(b"\n")
    assert path.read_bytes()[-1:] in (b"", b"\n")


@pytest.mark.parametrize("line", ["hello", "[]", '{"id": 1}', '{"id": [], "asked": "f"}', "\xe9"])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, line: str) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(answer_line(1) + line + "\n", encoding="latin-1")

    with pytest.raises(UsageError, match="line 2 is no answer of a batch; take another --out"):
        read_before(path)


def test_answers_to_other_questions_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(answer_line("a", "f1") + answer_line("b", "f2", error="bad"))
    before = read_before(path)

    check_same_batch(before, {"a": {"f1"}, "b": {"mended"}}, path)
    with pytest.raises(UsageError, match='line 1 answers "a", but another question'):
        check_same_batch(before, {"a": {"f2"}, "b": {"f2"}}, path)
    with pytest.raises(UsageError, match='line 1 has the id "a", which the input has not'):
        check_same_batch(before, {"b": {"f2"}}, path)


def test_a_second_batch_is_kept_out_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with (
        appending(path) as (before, lines),
        pytest.raises(StoreError, match="writing answers to it"),
        appending(path),
    ):
        pass

    assert before == Before()
    with appending(path) as (_, lines):
        lines.write({"id": 1, "text": "ü", "asked": "f"})
    assert path.read_text(encoding="utf-8") == '{"id": 1, "text": "ü", "asked": "f"}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="take another --out"), appending(tmp_path / "file" / "o"):
        pass


# The program


@pytest.fixture(autouse=True)
def _folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    with running_here(monkeypatch, capsys) as run:
        yield run


@pytest.fixture
def batch(here: Run, tiny_gguf: Path) -> Run:
    """``fwlocal run --batch`` on the tiny model."""

    def run(*arguments: str | Path, stdin: str | bytes = "") -> Any:
        options = ["--threads", "1", "--max-tokens", "8", "--temp", "0"]
        return here("run", "-m", tiny_gguf, *options, "--batch", *arguments, stdin=stdin)

    return run


def write(path: str, *lines: dict[str, Any] | str) -> str:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    Path(path).write_text("".join(f"{text}\n" for text in texts))
    return path


def records(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def read(path: str) -> list[Any]:
    return records(Path(path).read_text(encoding="utf-8"))


def prompts(count: int, **more: object) -> list[dict[str, Any]]:
    return [{"prompt": f"whale {number}", "id": f"w{number}", **more} for number in range(count)]


def test_answers_are_lines_in_the_order_of_the_input(batch: Run) -> None:
    done = batch(write("in.jsonl", *prompts(7)), "--out", "out.jsonl", "--parallel", "3")

    assert (done.returncode, done.stdout) == (0, "")
    found = read("out.jsonl")
    assert [record["id"] for record in found] == [f"w{number}" for number in range(7)]
    assert found[0].keys() == {
        "id",
        "text",
        "finish_reason",
        "prompt_tokens",
        "completion_tokens",
        "reused_tokens",
        "seed",
        "timings",
        "asked",
    }
    assert "7 answers" in done.stderr
    assert "tok/s" in done.stderr


def test_each_is_what_run_answers_alone(batch: Run, here: Run, tiny_gguf: Path) -> None:
    asked: list[dict[str, Any]] = [
        {"prompt": "whale"},
        {"prompt": "sea", "temperature": 0.9, "seed": 5, "max_tokens": 12},
        {"messages": [{"role": "user", "content": "the whale"}], "system": "Sing."},
        {"prompt": "the sea", "stop": ["a", "e"], "top_k": 3, "temperature": 1.5, "seed": 6},
    ]
    alone = [
        ["whale"],
        ["sea", "--temp", "0.9", "--seed", "5", "--max-tokens", "12"],
        ["the whale", "--system", "Sing."],
        ["the sea", "--stop", "a", "--stop", "e", "--top-k=3", "--temp=1.5", "--seed=6"],
    ]
    found = batch(write("in.jsonl", *asked), "--parallel", "4")

    for record, arguments in zip(records(found.stdout), alone, strict=True):
        options = ["--threads", "1", "--max-tokens", "8", "--temp", "0", "--json"]
        one = json.loads(here("run", "-m", tiny_gguf, *options, *arguments).stdout)
        assert record["text"] == one["text"]
        assert record["finish_reason"] == one["finish_reason"]
        assert record["prompt_tokens"] == one["prompt_tokens"]


@pytest.mark.parametrize("parallel", ["2", "5"])
def test_the_number_at_once_makes_no_difference(batch: Run, parallel: str) -> None:
    """Nor does what else is asked: each line's seed is its own."""
    asked = write("in.jsonl", *prompts(9, temperature=1.2, seed=3))
    alone = records(batch(asked, "--parallel", "1").stdout)
    several = records(batch(asked, "--parallel", parallel).stdout)

    assert [record["text"] for record in several] == [record["text"] for record in alone]


def test_a_bad_line_does_not_stop_the_others(batch: Run) -> None:
    lines: list[dict[str, Any] | str] = [
        {"prompt": "a"},
        "not json",
        {"prompt": "b", "grammar": "root ::= ("},
        {"prompt": "long " * 2000, "id": "long"},
        {"prompt": "c"},
    ]
    done = batch(write("in.jsonl", *lines), "--parallel", "2")

    found = records(done.stdout)
    assert done.returncode == 1
    assert "3 of 5 lines failed" in done.stderr
    assert ["error" in record for record in found] == [False, True, True, True, False]
    assert [record["id"] for record in found] == [1, 2, 3, "long", 5]
    assert "context holds" in found[3]["error"]


def test_lines_may_all_be_bad(batch: Run) -> None:
    done = batch("-", "--parallel", "2", stdin="{}\n[]\n")

    assert done.returncode == 1
    assert len(records(done.stdout)) == 2


@pytest.mark.parametrize("lines", ["", "\n \n"])
def test_an_empty_input_is_named(batch: Run, lines: str) -> None:
    done = batch("-", stdin=lines)

    assert done.returncode == 2
    assert "stdin: holds no line" in done.stderr


def test_a_missing_input_is_named(batch: Run) -> None:
    done = batch("missing.jsonl")

    assert done.returncode == 1
    assert done.stderr.startswith("fwlocal: missing.jsonl: cannot be read: ")


def test_the_input_is_no_place_for_answers(batch: Run) -> None:
    asked = write("in.jsonl", *prompts(2))
    done = batch(asked, "--out", "./in.jsonl")

    assert done.returncode == 2
    assert len(read("in.jsonl")) == 2


def test_what_is_finished_is_not_asked_again(batch: Run) -> None:
    asked, out = write("in.jsonl", *prompts(6)), Path("out.jsonl")
    whole = batch(asked, "--out", out, "--parallel", "2")
    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join(lines[:3]) + lines[3][:40])
    done = batch(asked, "--out", out, "--parallel", "3")

    assert (whole.returncode, done.returncode) == (0, 0)
    assert "3 lines are answered already, 3 are left" in done.stderr
    again = out.read_text().splitlines(keepends=True)
    assert again[:3] == lines[:3]
    assert [json.loads(line)["text"] for line in again] == [
        json.loads(line)["text"] for line in lines
    ]


def test_an_error_stays_until_its_line_is_mended(batch: Run) -> None:
    asked = write("in.jsonl", {"prompt": "a"}, {"prompt": "b", "temperature": "hot"})
    first = batch(asked, "--out", "out.jsonl")
    second = batch(asked, "--out", "out.jsonl")
    write("in.jsonl", {"prompt": "a"}, {"prompt": "b", "temperature": 1})
    third = batch(asked, "--out", "out.jsonl")

    assert [done.returncode for done in (first, second, third)] == [1, 1, 0]
    assert "1 of 2 lines failed" in second.stderr
    found = read("out.jsonl")
    assert [record["id"] for record in found] == [1, 2, 2]
    assert "text" in found[2]


def test_other_options_want_another_file(batch: Run) -> None:
    asked = write("in.jsonl", *prompts(2))
    batch(asked, "--out", "out.jsonl")
    before = Path("out.jsonl").read_bytes()
    done = batch(asked, "--out", "out.jsonl", "--max-tokens", "9")

    assert done.returncode == 2
    assert "another question, by another model or with other options" in done.stderr
    assert Path("out.jsonl").read_bytes() == before


def test_an_answer_that_was_cut_may_be_an_error(batch: Run) -> None:
    asked = write("in.jsonl", *prompts(2, grammar='root ::= "t"+'))

    assert batch(asked).returncode == 0
    done = batch(asked, "--fail-on-length")
    assert done.returncode == 1
    assert "2 of 2 answers were cut" in done.stderr


def test_quiet_is_quiet(batch: Run) -> None:
    done = batch(write("in.jsonl", *prompts(3)), "--quiet", "--parallel", "2")

    assert (done.returncode, done.stderr) == (0, "")


def test_raw_prompts(batch: Run) -> None:
    asked = write("in.jsonl", {"prompt": "<s>the whale"})
    (raw,) = records(batch(asked, "--raw").stdout)
    (rendered,) = records(batch(asked).stdout)

    assert raw["prompt_tokens"] < rendered["prompt_tokens"]


# Stopped on the way

MANY = 120


def started(model: Path, out: str) -> subprocess.Popen[str]:
    """A batch that takes a while, once its first answers are there."""
    asked = write("in.jsonl", *prompts(MANY, grammar='root ::= "t"+', max_tokens=40))
    options = ["--threads", "1", "--parallel", "4", "--temp", "0", "--out", out]
    process = subprocess.Popen(
        [sys.executable, "-m", "fwlocal", "run", "-m", str(model), "--batch", asked, *options],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    ends_at = time.monotonic() + 60
    while not Path(out).exists() or Path(out).read_bytes().count(b"\n") < 5:
        assert time.monotonic() < ends_at
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    return process


def resumed(model: Path, fwlocal: Run, out: str) -> list[Any]:
    assert Path(out).read_bytes().count(b"\n") < MANY, "it was over before it was stopped"
    options = ["--threads", "1", "--parallel", "4", "--temp", "0", "--out", out]
    done = fwlocal("run", "-m", model, "--batch", "in.jsonl", *options)
    assert done.returncode == 0, done.stderr
    assert "are answered already" in done.stderr
    return read(out)


def test_a_killed_batch_goes_on_where_it_was(tiny_gguf: Path, fwlocal: Run) -> None:
    process = started(tiny_gguf, "out.jsonl")
    process.kill()
    process.communicate()
    kept = Path("out.jsonl").read_bytes()
    found = resumed(tiny_gguf, fwlocal, "out.jsonl")

    assert [record["id"] for record in found] == [f"w{number}" for number in range(MANY)]
    assert Path("out.jsonl").read_bytes().startswith(kept[: kept.rindex(b"\n") + 1])


@pytest.mark.skipif(os.name == "nt", reason="a console's Ctrl-C reaches this process, too")
def test_ctrl_c_leaves_whole_lines(tiny_gguf: Path, fwlocal: Run) -> None:
    process = started(tiny_gguf, "out.jsonl")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)

    assert process.returncode == 130
    assert f"of {MANY} lines; the same command goes on from there" in said
    assert Path("out.jsonl").read_bytes().endswith(b"\n")
    found = resumed(tiny_gguf, fwlocal, "out.jsonl")
    assert [record["id"] for record in found] == [f"w{number}" for number in range(MANY)]
