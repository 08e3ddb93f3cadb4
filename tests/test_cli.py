"""The program as a user meets it: exit codes, one line for an error, stdout for the answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fwlocal import llama, options
from tests.conftest import Run


@pytest.fixture(autouse=True)
def _home(home: Path) -> None:
    """Every test has an empty store."""


def one_line(text: str) -> bool:
    return text.startswith("fwlocal: ") and text.count("\n") == 1


def test_run_answers_on_stdout(fwlocal: Run, tiny_gguf: Path) -> None:
    done = fwlocal("run", "-m", tiny_gguf, "--temp", "0", "--max-tokens", "5", "the whale")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n")


def test_the_model_comes_from_the_environment_too(fwlocal: Run, tiny_gguf: Path) -> None:
    done = fwlocal("run", "--json", "--max-tokens", "2", "x", env={"FWLOCAL_MODEL": str(tiny_gguf)})

    assert json.loads(done.stdout)["model"]["name"] == "tiny"


def test_stdin_is_appended(fwlocal: Run, tiny_gguf: Path) -> None:
    done = fwlocal(
        "prompt", "-m", tiny_gguf, "--prompt-format", "freewilly2", "Sum up", stdin="é\n"
    )

    assert done.stdout == "### User:\nSum up\n\né\n\n### Assistant:\n"


def test_a_known_models_prompt_needs_no_file(fwlocal: Run) -> None:
    done = fwlocal("prompt", "-m", "freewilly1", "hi")

    assert done.stdout.startswith("Below is an instruction that describes a task")
    assert "### Instruction:\nYou are Free Willy" in done.stdout


def test_system_text_can_be_set_and_left_out(fwlocal: Run, tiny_gguf: Path) -> None:
    arguments = ("prompt", "-m", tiny_gguf, "--prompt-format", "freewilly2", "hi", "--system")

    assert fwlocal(*arguments, "be kind").stdout.startswith("### System:\nbe kind\n\n### User:")
    assert fwlocal(*arguments, "").stdout.startswith("### User:")


def test_prompt_shows_tokens(fwlocal: Run, tiny_gguf: Path) -> None:
    done = fwlocal("prompt", "-m", tiny_gguf, "--tokens", "the </s>")

    first, *_ = lines = done.stdout.splitlines()
    assert first.split() == ["1", "'<s>'"]
    assert [line for line in lines if "</s>" in line] == ["      2  '</s>'"]


def test_the_prompt_shown_is_the_prompt_run(fwlocal: Run, tiny_gguf: Path) -> None:
    shown = fwlocal("prompt", "-m", tiny_gguf, "hi").stdout
    options = ("-m", tiny_gguf, "--temp", "0", "--max-tokens", "8", "--json")

    chatted = json.loads(fwlocal("run", *options, "hi").stdout)
    raw = json.loads(fwlocal("run", *options, "--raw", shown).stdout)

    assert raw["text"] == chatted["text"]
    assert raw["prompt_tokens"] == chatted["prompt_tokens"]
    assert raw["prompt_format"] is None


def test_a_shown_prompt_can_be_piped_back(fwlocal: Run, tiny_gguf: Path) -> None:
    shown = fwlocal("prompt", "-m", tiny_gguf, "--prompt-format", "freewilly2", "hi").stdout
    arguments = ("run", "-m", tiny_gguf, "--json", "--max-tokens", "1")

    chatted = fwlocal(*arguments, "--prompt-format", "freewilly2", "hi")
    raw = fwlocal(*arguments, "--raw", stdin=shown)

    counts = [json.loads(done.stdout)["prompt_tokens"] for done in (chatted, raw)]
    assert counts[0] == counts[1]


def test_bare_fwlocal_shows_its_help(fwlocal: Run) -> None:
    done = fwlocal()

    assert done.returncode == 0
    assert done.stdout.startswith("Usage: fwlocal")


def test_a_full_disk_is_told(tiny_gguf: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with full.open("wb") as stdout:
        done = subprocess.run(
            [sys.executable, "-m", "fwlocal", "models"], stdout=stdout, stderr=subprocess.PIPE
        )

    assert done.returncode == 5
    assert done.stderr == b"fwlocal: stdout: No space left on device\n"


def test_an_answer_cut_by_nobodys_wish_is_told(fwlocal: Run, tiny_gguf: Path) -> None:
    arguments = ("run", "-m", tiny_gguf, "--raw", "--temp", "0", "a" * 200)
    done = fwlocal(*arguments, "--grammar", _letters(tiny_gguf))

    assert "the answer was cut after" in done.stderr


def _letters(tiny_gguf: Path) -> Path:
    path = tiny_gguf.with_name("letters.gbnf")
    path.write_text('root ::= "a"{900}')
    return path


@pytest.mark.parametrize("closed", [0, 1])
def test_a_closed_stdin_or_stdout_does_no_harm(tiny_gguf: Path, closed: int) -> None:
    code = "import os, sys; os.close(int(sys.argv[1])); "
    code += "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    arguments = ["-m", "fwlocal", "run", "-m", str(tiny_gguf), "--max-tokens", "1", "hi"]
    done = subprocess.run(
        [sys.executable, "-c", code, str(closed), *arguments], capture_output=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, b"")


def test_the_same_seed_gives_the_same_text(fwlocal: Run, tiny_gguf: Path) -> None:
    arguments = ("run", "-m", tiny_gguf, "--seed", "5", "--temp", "2", "--max-tokens", "9", "hi")

    assert fwlocal(*arguments).stdout == fwlocal(*arguments).stdout


def test_a_json_schema_is_obeyed(fwlocal: Run, tiny_gguf: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(
        '{"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}'
    )

    done = fwlocal("run", "-m", tiny_gguf, "--json-schema", schema, "--temp", "0", "hi")

    assert json.loads(done.stdout)["a"] in (1, 2)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (["run", "--temp", "abc", "x"], 2, "'abc' is not a valid float"),
        (["run", "--temp", "-1", "x"], 2, "temperature is -1.0; it must be between 0"),
        (["run", "--colour", "x"], 2, "No such option"),
        (["rum"], 2, "No such command 'rum'"),
        (["run", "--max-tokens", "0", "x"], 2, "--max-tokens"),
        (["run", ""], 2, "the prompt is empty; give"),
        (["run", "-m", "", "x"], 2, "the model's name is empty"),
        (["run", "-m", "frewilly2", "x"], 1, "did you mean freewilly2"),
        (["run", "-m", "none.gguf", "x"], 1, "none.gguf: no such file"),
        (["run", "-m", "freewilly2", "x"], 1, "fwlocal pull freewilly2:Q4_K_M"),
        (["run", "-m", "TINY", "--n-ctx", "9999", "x"], 2, "--n-ctx 9999: tiny.gguf takes 256"),
        (["run", "-m", "TINY", "x " * 600], 1, "the model was trained on 512 tokens"),
        (["run", "-m", "TINY", "--prompt-format", "alpaca", "x"], 2, "'alpaca'; there are"),
        (["run", "-m", "TINY", "--grammar", "none", "x"], 1, "none: cannot be read"),
        (["run", "-m", "TINY", "--grammar", "BAD", "x"], 1, "no valid GBNF"),
        (["run", "-m", "TINY", "--json-schema", "BAD", "x"], 1, "BAD: the JSON schema"),
        (["run", "-m", "TINY", "--json-schema", "a", "--grammar", "b", "x"], 2, "exclude"),
        (["run", "-m", "TINY", "--kv-type", "q8_0", "--flash-attn", "off", "x"], 2, "needs flash"),
        (["prompt", "-m", "BAD", "x"], 1, "no model is called"),
        (["run", "-m", "TINY", "--raw", "--system", "a", "x"], 2, "leave --system out"),
        (["run", "-m", "TINY", "--raw", "--prompt-format", "chatml", "x"], 2, "leave one"),
        (["run", "-m", "TINY", "--kv-type", "q8_0", "x"], 1, "try --kv-type f16"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(
    fwlocal: Run, tiny_gguf: Path, tmp_path: Path, arguments: list[str], exit_code: int, says: str
) -> None:
    bad = tmp_path / "BAD"
    bad.write_text("{ not a grammar, not JSON")
    names = {"TINY": str(tiny_gguf), "BAD": "BAD" if arguments[0] == "prompt" else str(bad)}

    done = fwlocal(*[names.get(argument, argument) for argument in arguments])

    assert (done.returncode, done.stdout) == (exit_code, "")
    assert one_line(done.stderr), done.stderr
    assert says in done.stderr


@pytest.mark.parametrize(("stdin", "says"), [(b"a\0b", "NUL byte"), (b"\xff\xfe", "not UTF-8")])
def test_stdin_that_is_no_text(fwlocal: Run, stdin: bytes, says: str) -> None:
    done = fwlocal("run", stdin=stdin)

    assert done.returncode == 1
    assert one_line(done.stderr)
    assert says in done.stderr


def test_a_truncated_model(fwlocal: Run, tiny_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(tiny_gguf.read_bytes()[:-1000])

    done = fwlocal("run", "-m", path, "x")

    assert done.returncode == 1
    assert one_line(done.stderr)
    assert "truncated" in done.stderr


def test_a_broken_models_toml(fwlocal: Run, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "models.toml").write_text("[mine]\ncolour = 1\n")

    for verb in ("models", "run"):
        done = fwlocal(verb, *(["x"] if verb == "run" else []))
        assert done.returncode == 1
        assert one_line(done.stderr)
        assert "mine: unknown key 'colour'" in done.stderr


def test_no_network(fwlocal: Run) -> None:
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": "/dev/null"}

    done = fwlocal("run", "x", env=offline)

    assert done.returncode == 4
    assert "check the network" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("signum", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_fetch(
    home: Path, tmp_path: Path, signum: signal.Signals, exit_code: int
) -> None:
    slow_pip = tmp_path / "slow" / "pip"
    slow_pip.mkdir(parents=True)
    (slow_pip / "__init__.py").touch()
    (slow_pip / "__main__.py").write_text("import time; time.sleep(60)")
    paths = [str(slow_pip.parent), os.environ["PYTHONPATH"]]
    process = subprocess.Popen(
        [sys.executable, "-m", "fwlocal", "run", "x"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert process.stderr is not None
    assert b"fetching" in process.stderr.readline()
    time.sleep(0.5)  # until pip runs
    process.send_signal(signum)

    assert process.wait(10) == exit_code
    assert b"Traceback" not in process.stderr.read()
    assert list(home.rglob("*.gguf")) == list(home.rglob(".fetch-*")) == []
    process.stderr.close()


def test_a_store_that_cannot_be_written(fwlocal: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    done = fwlocal("run", "x", env={"FWLOCAL_HOME": str(tmp_path / "file")})

    assert done.returncode == 1
    assert "set FWLOCAL_HOME to another folder" in done.stderr.splitlines()[-1]


def test_the_traceback_comes_only_on_demand(fwlocal: Run) -> None:
    assert "Traceback" not in fwlocal("run", "-m", "zzz", "x").stderr
    assert "Traceback" in fwlocal("run", "-m", "zzz", "x", env={"FWLOCAL_DEBUG": "1"}).stderr


def test_llama_cpps_log_shows_only_when_asked(fwlocal: Run, tiny_gguf: Path) -> None:
    arguments = ("run", "-m", tiny_gguf, "--max-tokens", "1", "x")

    assert fwlocal(*arguments).stderr == ""
    assert "llama_model_loader" in fwlocal(*arguments, "--verbose").stderr


def test_chat_without_a_terminal_answers_stdin(fwlocal: Run, tiny_gguf: Path) -> None:
    done = fwlocal("chat", "-m", tiny_gguf, "--max-tokens", "3", stdin="the whale")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_models_lists_all(fwlocal: Run) -> None:
    shown = fwlocal("models").stdout
    data = {model["name"]: model for model in json.loads(fwlocal("models", "--json").stdout)}

    assert all(name in shown for name in data)
    assert data["freewilly2"]["levels_gb"]["Q4_K_M"] == 41.4
    assert data["freewilly2"]["on_disk"] == []


def test_models_shows_what_is_on_disk(fwlocal: Run, home: Path) -> None:
    (home / "freewilly2").mkdir(parents=True)
    (home / "freewilly2" / "freewilly2-Q2_K.gguf").write_bytes(b"GGUF")

    data = {model["name"]: model for model in json.loads(fwlocal("models", "--json").stdout)}

    assert [stored["level"] for stored in data["freewilly2"]["on_disk"]] == ["Q2_K"]


def test_doctor(fwlocal: Run) -> None:
    done = fwlocal("doctor", "--json")
    report = json.loads(done.stdout)

    assert report["llama_cpp_python"][0] == "0.3.36"
    assert "CPU" in report["backends"]
    assert report["memory_bandwidth"] > 0
    assert report["physical_cores"] >= 1
    assert done.returncode == (1 if report["problems"] else 0)


def test_doctor_names_what_is_wrong_and_the_fix(fwlocal: Run, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "models.toml").write_text("[mine]\n")
    (tmp_path / "file").write_text("")

    done = fwlocal("doctor", env={"FWLOCAL_HOME": str(tmp_path / "file" / "models")})

    assert done.returncode == 1
    assert "cannot be written" in done.stdout
    assert "key 'title' is missing" in done.stdout
    assert done.stdout.count("fix:") >= 2


def test_a_closed_pipe_ends_quietly(tiny_gguf: Path) -> None:
    command = [sys.executable, "-m", "fwlocal", "run", "-m", str(tiny_gguf), "--max-tokens", "200"]
    process = subprocess.Popen(
        [*command, "--temp", "2", "x"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()

    assert process.wait(60) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def test_the_choices_of_the_options_are_llama_cpps() -> None:
    assert set(options.KV_TYPES) == {"auto", *llama.KV_TYPES}
    assert set(options.FLASH_ATTENTION) == set(llama.FLASH_ATTENTION)


def test_version(fwlocal: Run) -> None:
    assert fwlocal("--version").stdout.startswith("fwlocal, version ")
