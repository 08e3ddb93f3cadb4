"""``fwlocal replay``: a recorded answer is read back, asked again, and compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fwlocal.errors import UsageError
from fwlocal.oneshot.record import recorded
from fwlocal.oneshot.replay import Verdict, lines
from fwlocal.prompts import Message
from fwlocal.sampling import SamplingParams
from tests.conftest import Run
from tests.here import one_line

RECORD: dict[str, Any] = {
    "text": "Paris",
    "finish_reason": "stop",
    "model": {
        "name": "tiny",
        "level": "Q8_0",
        "file": "/x/tiny.gguf",
        "size_bytes": 1,
        "sha256": None,
    },
    "prompt_format": "chatml",
    "messages": [{"role": "user", "content": "hi"}],
    "prompt": None,
    "sampling": {
        "temperature": 0.5,
        "top_k": 4,
        "top_p": 1,
        "min_p": 0.0,
        "repeat_penalty": 1.0,
        "grammar": None,
    },
    "seed": 7,
    "max_tokens": None,
    "stop": ["END"],
    "llama_cpp": "1",
    "build": "llama.cpp 1: AVX2",
    "layers": {"CPU": 3},
    "kv_type": "f16",
    "flash_attn": "auto",
    "prompt_tokens": 5,
    "completion_tokens": 3,
    "reused_tokens": 0,
}


def test_a_record_is_read_back() -> None:
    found = recorded(RECORD, "a.json")

    assert found.model == "tiny:Q8_0"
    assert found.question.sampling == SamplingParams(0.5, 4, 1, 0.0, 1.0, seed=7)
    assert (found.question.messages, found.question.stop) == ((Message("user", "hi"),), ("END",))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": "7"}, "a.json: 'seed' is a text, not a number"),
        ({"seed": True}, "'seed' is true or false, not a number"),
        ({"seed": -1}, "'sampling': seed is -1"),
        ({"restored_tokens": "3"}, "'restored_tokens' is a text, not a number or null"),
        ({"layers": {"CPU": None}}, "'layers': 'CPU' is null"),
        ({"model": {}}, "'model': 'name' is null, not a text"),
        ({"stop": [""]}, "'stop' 0 is empty"),
        ({"messages": [{}]}, "'messages': message 0: has no 'role'"),
        ({"prompt_format": None}, "'prompt' is null, not a text"),
        ({"sampling": {**RECORD["sampling"], "top_k": 0.5}}, "'top_k' is a number, not a"),
        ({"sampling": {**RECORD["sampling"], "x": 1}}, "unknown field 'x'"),
    ],
)
def test_a_record_that_was_edited_into_nonsense(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as raised:
        recorded({**RECORD, **changes}, "a.json")

    assert says in str(raised.value)


@pytest.mark.parametrize("field", [*RECORD])
def test_a_record_with_a_field_missing(field: str) -> None:
    with pytest.raises(UsageError, match=f"has no '{field}'; only what"):
        recorded({name: value for name, value in RECORD.items() if name != field}, "a.json")


def test_what_came_from_the_disk_is_evaluated_again() -> None:
    """From there come whole batches, and the sums are the same; from the KV cache maybe not."""
    kept = recorded({**RECORD, "reused_tokens": 4}, "a.json")
    restored = recorded({**RECORD, "reused_tokens": 4, "restored_tokens": 4}, "a.json")

    assert (kept.kept_tokens, restored.kept_tokens) == (4, 0)


def test_where_two_texts_part() -> None:
    assert Verdict("abc", "abd", ()).parting == 2
    assert Verdict("ab", "abc", ()).parting == 2
    assert Verdict("ab", "ab", ()).same


def test_a_difference_is_shown_with_what_changed() -> None:
    assert lines(Verdict("abc", "ab\x1bd", (("layers", "1 on CPU", "2 on CPU"),))) == (
        "another text, from character 2 on\n"
        '  then  "c"\n'
        '  now   "\\u001bd"\n'
        "  layers: 1 on CPU then, 2 on CPU now\n"
    )
    assert lines(Verdict("a", "b", ())).endswith("  nothing else that is recorded has changed\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--json", "hi"],
        ["--jsonl", "--system", "be kind", "hi", "--stop", "e"],
        ["--json", "--raw", "the whale", "--repeat-penalty", "1.1"],
        ["--json", "--n", "3", "the whale sings and the sea", "-f", "src/*.py"],
        ["--json", "--prompt-format", "freewilly2", "--kv-type", "f16", "hi"],
    ],
)
def test_an_answer_is_repeated(ask: Run, here: Run, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "answer.json").write_text(ask("--temp", "2", *arguments).stdout, encoding="utf-8")

    done = here("replay", "answer.json")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("the same text") == (3 if "--n" in arguments else 1)


def test_an_answer_that_differs_is_told_with_what_changed(record: Any, here: Run) -> None:
    found = record("hi", "--temp", "0")
    found.update(text=found["text"] + "?", llama_cpp="older")
    found["model"]["sha256"] = "ab"

    done = here("replay", "-", stdin=json.dumps(found))

    assert (done.returncode, done.stderr) == (1, "")
    assert f"another text, from character {len(found['text']) - 1} on" in done.stdout
    assert "llama.cpp: older then," in done.stdout
    assert "the file's sha256: ab then," in done.stdout
    data = json.loads(here("replay", "--json", "-", stdin=json.dumps(found)).stdout)[0]
    assert (data["same"], data["text"]) == (False, found["text"][:-1])


def test_nothing_is_drafted_or_kept(record: Any, here: Run, tmp_path: Path) -> None:
    found = record("the whale sings and the sea", "--temp", "0")
    found.update(text=found["text"] + "?", drafted_tokens=7)

    drafted = here("replay", "-", stdin=json.dumps(found)).stdout

    assert "drafted tokens: 7 then, 0 now" in drafted
    assert not (tmp_path / "cache" / "prefixes").exists()


@pytest.mark.parametrize("option", ["--draft=off", "--lookup=off", "--lossless", "--no-cache"])
def test_what_replay_leaves_out_is_no_option_of_it(here: Run, option: str) -> None:
    done = here("replay", option, "-")

    assert (done.returncode, "No such option" in done.stderr) == (2, True), done.stderr


def test_answers_of_one_file_may_have_drafted_more_and_less(record: Any, here: Run) -> None:
    answers = record("hi", "--n", "2", "--temp", "2")
    answers[0]["drafted_tokens"], answers[1]["drafted_tokens"] = 7, 0

    assert here("replay", "-", stdin=json.dumps(answers)).returncode == 0


def test_another_model_can_be_asked(record: Any, here: Run, tiny_gguf: Path) -> None:
    found = record("hi")
    found["model"]["file"] = "/moved/away.gguf"

    gone = here("replay", "-", stdin=json.dumps(found))
    other = here("replay", "-", "-m", tiny_gguf, stdin=json.dumps(found))

    assert (gone.returncode, other.returncode) == (1, 0)
    assert "/moved/away.gguf: no such file" in gone.stderr


@pytest.mark.parametrize(
    ("stdin", "exit_code", "says"),
    [
        ("", 2, "stdin: holds no answer"),
        ("{", 1, "stdin: is no valid JSON"),
        ("{}", 2, "stdin: has no 'text'; only what `fwlocal run --json` prints"),
        ("[]", 2, "holds no answer"),
        ("[1]", 2, "is a number, not what"),
        ('{"event": "piece", "text": "a"}\n{"event": "piece", "text": "b"}', 2, "no end event"),
    ],
)
def test_what_cannot_be_repeated(here: Run, stdin: str, exit_code: int, says: str) -> None:
    done = here("replay", "-", stdin=stdin)

    assert (done.returncode, done.stdout) == (exit_code, "")
    assert one_line(done.stderr)
    assert says in done.stderr
