"""``fwlocal imatrix`` as a user meets it: a matrix collected, gone on with, merged, used."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest

from convert.imatrix import read_imatrix, read_sums
from tests.conftest import Run
from tests.convert.llama_quant import quantize
from tests.convert.reference import tensor_bytes
from tests.here import one_line, running_here
from tests.tiny_llama import Shape, write_gguf

pytestmark = pytest.mark.usefixtures("home")

SENTENCE = "the whale sings and the sea sings, at noon and at night; "


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """The program, in this process."""
    with running_here(monkeypatch, capsys) as run:
        yield run


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Some two hundred tokens of the tiny vocabulary."""
    path = tmp_path / "text.txt"
    path.write_text(SENTENCE * 8, encoding="utf-8")
    return path


def collecting(model: Path, text: Path, out: Path, *more: str) -> list[str]:
    """The command, of chunks of 32 tokens."""
    paths = ["-m", str(model), "--text", str(text), "--out", str(out)]
    return ["imatrix", *paths, "--n-ctx", "32", "--threads", "1", *more]


def test_a_matrix_is_collected(here: Run, tiny_gguf: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.gguf"

    done = here(*collecting(tiny_gguf, text, out, "--chunks", "3"))

    assert (done.returncode, done.stdout) == (0, f"{out}\n")
    assert done.stderr == "fwlocal: 14 tensors, 3 chunks of 32 tokens\n"
    found = read_sums(out)
    assert (found.n_chunks, found.chunk_size, found.datasets) == (3, 32, ("text.txt",))
    assert {entry.counts.tolist()[0] for entry in found.entries.values()} == {96}
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["m.gguf", "text.txt"]


def test_more_chunks_are_added_to_it(
    here: Run, tiny_gguf: Path, text: Path, tmp_path: Path
) -> None:
    out, at_once = tmp_path / "m.gguf", tmp_path / "at-once.gguf"
    here(*collecting(tiny_gguf, text, out, "--chunks", "2"))

    again = here(*collecting(tiny_gguf, text, out, "--chunks", "2"))
    more = here(*collecting(tiny_gguf, text, out, "--chunks", "4"))

    assert again.stderr == f"fwlocal: {out}: already there, of the same 2 chunks\n"
    assert f"{out}: going on after 2 of 4 chunks\n" in more.stderr
    here(*collecting(tiny_gguf, text, at_once, "--chunks", "4"))
    assert out.read_bytes() == at_once.read_bytes()


def test_parts_of_a_text_are_merged_to_the_whole(
    here: Run, tiny_gguf: Path, text: Path, tmp_path: Path
) -> None:
    whole, first, rest, both = (tmp_path / f"{name}.gguf" for name in ("all", "a", "b", "both"))
    here(*collecting(tiny_gguf, text, whole, "--chunks", "4"))
    here(*collecting(tiny_gguf, text, first, "--chunks", "1"))
    here(*collecting(tiny_gguf, text, rest, "--from-chunk", "1", "--chunks", "3"))

    done = here("imatrix", "--merge", first, rest, "--out", both)

    assert (done.returncode, done.stdout) == (0, f"{both}\n")
    assert done.stderr == "fwlocal: 2 matrices added: 14 tensors, 4 chunks\n"
    one, other = read_imatrix(whole), read_imatrix(both)
    assert other.datasets == ("text.txt", "text.txt")
    for name, weights in one.weights.items():
        np.testing.assert_allclose(other.weights[name], weights, rtol=1e-6)


def test_a_model_is_converted_by_it_as_by_llama_quantize(
    here: Run, text: Path, tmp_path: Path
) -> None:
    shape = Shape(256, 512, 2, 4, 2)
    model = write_gguf(tmp_path / "wide.gguf", shape)
    out = tmp_path / "m.gguf"
    here(*collecting(model, text, out, "--chunks", "2"))

    done = here(
        "convert", model, "--imatrix", out, "--quant", "Q2_K", "--out", tmp_path, "--name", "ours"
    )

    assert done.returncode == 0, done.stderr
    theirs = tmp_path / "theirs.gguf"
    quantize(model, theirs, "Q2_K", imatrix=dict(read_imatrix(out).weights))
    assert tensor_bytes(tmp_path / "ours-Q2_K.gguf") == tensor_bytes(theirs)


def test_without_options_it_reads_moby_dick_and_writes_here(
    here: Run, tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = here("imatrix", "-m", tiny_gguf, "--chunks", "1", "--threads", "1")
    assert done.stdout == "tiny.imatrix.gguf\n"
    found = read_sums(tmp_path / "tiny.imatrix.gguf")
    assert (found.chunk_size, found.datasets) == (512, ("moby-dick.txt",))


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--n-ctx", "512"), 2, "one chunk takes 512"),
        (("--n-ctx", "16"), 2, "--n-ctx 16: tiny takes 32 to 512 tokens"),
        (("--n-ctx", "513"), 2, "--n-ctx 513: tiny takes 32 to 512 tokens"),
        (("--from-chunk", "900"), 2, "--from-chunk 900: text.txt has"),
        (("x.gguf",), 2, "x.gguf: which of --text, --model and --out is it?"),
        (("--merge",), 2, "--merge takes the matrices to add and --out FILE"),
        (("--merge", "x.gguf"), 2, "--text is for collecting"),
        (("--out", "{text}"), 2, "is what the matrix is made from"),
        (("--out", "{model}"), 2, "is what the matrix is made from"),
        (("--text", "none.txt"), 2, "none.txt: cannot be read"),
        (("-m", "none"), 1, "none"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    here: Run,
    tiny_gguf: Path,
    text: Path,
    tmp_path: Path,
    more: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    filled = [one.format(text=text, model=tiny_gguf) for one in more]
    done = here(*collecting(tiny_gguf, text, tmp_path / "m.gguf", *filled))
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert one_line(done.stderr)
    assert message in done.stderr
    assert not (tmp_path / "m.gguf").exists()


def test_another_models_matrix_is_neither_gone_on_with_nor_merged(
    here: Run, tiny_gguf: Path, text: Path, tmp_path: Path
) -> None:
    out, other, both = (tmp_path / f"{name}.gguf" for name in ("m", "other", "both"))
    larger = write_gguf(tmp_path / "larger.gguf", Shape(128, 128))
    here(*collecting(tiny_gguf, text, out, "--chunks", "1"))
    before = out.read_bytes()

    resumed = here(*collecting(larger, text, out, "--chunks", "2"))
    here(*collecting(larger, text, other, "--chunks", "1"))
    merged = here("imatrix", "--merge", out, other, "--out", both)

    assert resumed.returncode == 2
    assert f"{out}: is of another model; take another --out" in resumed.stderr
    assert out.read_bytes() == before
    assert merged.returncode == 1
    assert "blk.0.attn_k.weight does not fit the others'" in merged.stderr
    assert not both.exists()
    anew = here(*collecting(larger, text, out, "--chunks", "1", "--overwrite"))
    assert (anew.returncode, out.read_bytes()) == (0, other.read_bytes())


def test_a_damaged_matrix_is_not_merged(here: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF and then nothing of the kind")
    done = here("imatrix", "--merge", tmp_path / "bad.gguf", "--out", tmp_path / "m.gguf")
    assert done.returncode == 1
    assert one_line(done.stderr)
    assert not (tmp_path / "m.gguf").exists()


def test_a_matrix_that_is_there_is_not_replaced_by_a_merged_one(
    here: Run, tiny_gguf: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m.gguf"
    here(*collecting(tiny_gguf, text, out, "--chunks", "1"))
    before = out.read_bytes()
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(before)
    done = here("imatrix", "--merge", out, copy, "--out", out)
    assert (done.returncode, out.read_bytes()) == (2, before)
    done = here("imatrix", "--merge", out, copy, "--out", out, "--overwrite")
    assert done.returncode == 0
    assert read_sums(out).n_chunks == 2


def test_a_matrix_is_not_added_to_itself(
    here: Run, tiny_gguf: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m.gguf"
    here(*collecting(tiny_gguf, text, out, "--chunks", "1"))
    other_name = tmp_path / "sub" / ".." / "m.gguf"
    (tmp_path / "sub").mkdir()
    done = here("imatrix", "--merge", out, other_name, "--out", tmp_path / "both.gguf")
    assert done.returncode == 2
    assert f"{other_name}: is named twice" in done.stderr


def test_where_nothing_can_be_written_nothing_is_read(
    here: Run, tiny_gguf: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "none" / "m.gguf"
    for command in (
        collecting(tiny_gguf, text, out),
        ["imatrix", "--merge", str(tmp_path / "x.gguf"), "--out", str(out)],
    ):
        done = here(*command)
        assert done.returncode == 2
        assert done.stderr == (
            f"fwlocal: {out}: there is no folder {out.parent}; make it, or take another --out\n"
        )
        assert not out.parent.exists()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody can write")
def test_a_folder_that_cannot_be_written_is_told(here: Run, tiny_gguf: Path, text: Path) -> None:
    done = here(*collecting(tiny_gguf, text, Path("/proc/x.gguf")))
    assert done.returncode == 1
    assert "/proc/x.gguf: the folder cannot be written" in done.stderr


def test_a_quantized_source_is_told(here: Run, text: Path, tmp_path: Path) -> None:
    model, small = write_gguf(tmp_path / "wide.gguf", Shape(256, 512, 2, 4, 2)), tmp_path / "q.gguf"
    quantize(model, small, "Q4_0")
    done = here(*collecting(small, text, tmp_path / "m.gguf", "--chunks", "1"))
    assert done.returncode == 0
    assert "q.gguf is quantized (Q4_0" in done.stderr.splitlines()[0]


def test_a_text_is_no_matrix(here: Run, tiny_gguf: Path, text: Path, tmp_path: Path) -> None:
    done = here("convert", tiny_gguf, "-q", "Q4_0", "--imatrix", text, "-o", tmp_path)
    assert done.returncode == 1
    assert f"{text}: is no importance matrix; " in done.stderr


def test_a_model_that_computes_nan_ends_the_run(here: Run, text: Path, tmp_path: Path) -> None:
    model, out = write_gguf(tmp_path / "nan.gguf"), tmp_path / "m.gguf"
    weights = {tensor.name: tensor.data for tensor in gguf.GGUFReader(model, "r+").tensors}
    weights["blk.1.attn_v.weight"][0, 0] = np.inf
    weights["blk.1.attn_v.weight"].flush()

    done = here(*collecting(model, text, out))

    assert done.returncode == 1
    assert one_line(done.stderr)
    assert "fwlocal: blk.1.attn_output.weight: what goes into it is NaN or Inf" in done.stderr
    assert not out.exists()


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGINT for another process")
def test_ctrl_c_keeps_what_is_whole(
    fwlocal: Run, tiny_gguf: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m.gguf"
    text.write_text(SENTENCE * 2000, encoding="utf-8")
    command = collecting(tiny_gguf, text, out)
    program = [sys.executable, "-m", "fwlocal", *command]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while not out.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)

    assert process.returncode == 130, told
    assert one_line(told)
    n_done = read_sums(out).n_chunks
    assert f"interrupted after {n_done} of" in told
    again = fwlocal(*command, "--chunks", str(n_done))
    assert (again.returncode, "already there" in again.stderr) == (0, True)
