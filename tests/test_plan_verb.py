"""``fwlocal plan`` as a user calls it: of what is here, of what is not, and for other machines."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import gguf
import numpy as np
import pytest

from tests import tiny_llama
from tests.conftest import Run
from tests.convert.checkpoints import tensor_shapes, write_checkpoint
from tests.forecast.asking import ask_here, data_of
from tests.hub_server import HubServer
from tests.tiny_llama import Shape

pytestmark = pytest.mark.usefixtures("home")

WIDE = Shape(512, 1408, 8, 8, 4, vocab_size=512)
ELSEWHERE = ("--gpu-memory", "24G", "--ram", "64G")
Ask = Callable[..., "CompletedProcess[str]"]

OWN = """
[{name}]
title = "Mine"
parameters = "1B"
prompt_format = "chatml"
system = ""
context_length = 512
default_level = "F16"
licence = {{ name = "MIT", note = "", non_commercial = false }}
{rest}
"""


def hollow_gguf(path: Path, shape: Shape, model: str = "") -> Path:
    """A whole F16 Llama whose weights are a hole in the file; it may say which model it is."""
    writer = gguf.GGUFWriter(path, "llama")
    if model:
        writer.add_string("fwlocal.model", model)
    tiny_llama.add_sizes(writer, shape)
    tokens = tiny_llama.vocabulary()
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _, _ in tokens])
    end = 0
    for name, dims in tensor_shapes(shape).items():
        kind = np.dtype(np.float16 if len(dims) > 1 else np.float32)
        n_bytes = int(np.prod(dims)) * kind.itemsize
        writer.add_tensor_info(tiny_llama.gguf_name(name), dims, kind, n_bytes)
        end += -(-n_bytes // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        start = file.seek(0, 2)
        file.truncate(start + -start % 32 + end)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF of 42 MB, and a checkpoint."""
    folder = tmp_path_factory.mktemp("files")
    hollow_gguf(folder / "w.gguf", WIDE)
    write_checkpoint(folder / "checkpoint", Shape(256, 512, 4, 4, 2, vocab_size=512))
    return folder


@pytest.fixture
def hub(files: Path) -> Iterator[HubServer]:
    """A Hub with ready-made GGUFs and a checkpoint."""
    with HubServer() as server:
        gguf_file = files / "w.gguf"
        server.add("owner/Whale-GGUF", {"w.Q4_K_M.gguf": gguf_file, "w.Q8_0.gguf": gguf_file})
        folder = files / "checkpoint"
        contents = {p.name: p if p.suffix == ".safetensors" else p.read_bytes()
                    for p in folder.iterdir()}  # fmt: skip
        server.add("owner/Whale", contents)
        server.add("owner/Poem", {"README.md": b"Sea."})
        yield server


@pytest.fixture
def ask(hub: HubServer, fwlocal: Run, tmp_path: Path) -> Ask:
    """``fwlocal plan`` with that Hub, and caches of its own."""
    own = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "huggingface"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }

    def run(*arguments: str | Path, **settings: str) -> CompletedProcess[str]:
        return fwlocal("plan", *arguments, env={**own, **settings})

    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """``fwlocal plan`` in this process, where no Hub is asked: quicker."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    return ask_here


def own_models(tmp_path: Path, **entries: str) -> None:
    (tmp_path / "config").mkdir()
    text = "".join(OWN.format(name=name, rest=rest) for name, rest in entries.items())
    (tmp_path / "config" / "models.toml").write_text(text)


def test_what_would_a_24_gb_card_do_with_freewilly2(ask: Ask, hub: HubServer) -> None:
    done = ask("-m", "freewilly2", *ELSEWHERE)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert "ready-made" in rows["Q4_K_M"]
    assert "of 81 layers" in rows["Q4_K_M"]
    assert "convert" in rows["Q8_0"]
    assert " no " in rows["F32"]
    assert "taken for an RTX 4090" in done.stdout
    assert "DEVICE" not in done.stdout  # nothing of it is on this disk
    assert not hub.requests
    data = data_of(ask("-m", "freewilly2", *ELSEWHERE, "--json"))
    levels = {level["level"]: level for level in data["levels"]}
    assert levels["Q4_K_M"]["size_bytes"] == pytest.approx(41.4e9, rel=0.01)
    assert levels["Q2_K"]["size_bytes"] == pytest.approx(29.3e9, rel=0.01)
    assert levels["IQ2_XXS"]["needs_imatrix"]
    assert 1 < levels["Q4_K_M"]["tokens_per_s"] < 2


def test_one_level_in_detail(here: Ask) -> None:
    done = here("-m", "freewilly2:q4_k_m", "--gpu-memory", "24G,24G", "--ram", "64G")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("freewilly2:Q4_K_M, context 4096, KV cache f16, about ")
    assert "LEVEL" not in done.stdout
    assert "all 81 layers fit on GPU" in done.stdout
    options = ("--kv", "q4_0", "--n-ctx", "2048", "--n-gpu-layers", "10", "--gpu-bandwidth", "500")
    (level,) = data_of(here("-m", "freewilly2:Q4_K_M", *ELSEWHERE, *options, "--json"))["levels"]
    assert (level["kv_type"], level["n_ctx"], level["n_gpu_layers"]) == ("q4_0", 2048, 10)
    fewer, more = (
        data_of(here("-m", "freewilly2:Q4_K_M", *ELSEWHERE, "--gpu-margin", margin, "--json"))
        for margin in ("4G", "0")
    )
    assert fewer["levels"][0]["n_gpu_layers"] < more["levels"][0]["n_gpu_layers"]


def test_what_fits_nowhere_is_told_in_a_line(here: Ask) -> None:
    done = here("-m", "freewilly2:Q8_0", "--gpu-memory", "8G", "--ram", "16G")
    assert done.returncode == 5
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("fwlocal: freewilly2:Q8_0")
    assert here("-m", "freewilly2", "--gpu-memory", "8G", "--ram", "8G").returncode == 0


def test_a_file_on_this_machine(here: Ask, tiny_gguf: Path) -> None:
    done = here("-m", tiny_gguf)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tiny, context 512, KV cache ")
    assert "(measured)" in done.stdout
    (level,) = data_of(here("-m", tiny_gguf, "--n-ctx", "300", "--json"))["levels"]
    assert level["n_ctx"] == 512
    assert level["origin"] == "on disk"
    assert level["size_bytes"] == tiny_gguf.stat().st_size


def test_levels_on_the_disk_are_marked_and_shown(here: Ask, home: Path, tiny_gguf: Path) -> None:
    folder = home / "stable-beluga-7b"
    folder.mkdir(parents=True)
    shutil.copy(tiny_gguf, folder / "stable-beluga-7b-Q5_K_M.gguf")
    data = data_of(here("-m", "stable-beluga-7b", *ELSEWHERE, "--n-ctx", "512", "--json"))
    assert data["chosen"] == "Q5_K_M"
    found = {level["level"]: level for level in data["levels"]}
    assert found["Q5_K_M"]["size_bytes"] == tiny_gguf.stat().st_size
    assert found["Q4_K_M"]["size_bytes"] == pytest.approx(4.08e9, rel=0.01)
    text = here("-m", "stable-beluga-7b", *ELSEWHERE, "--n-ctx", "512").stdout
    assert text.index("LEVEL") < text.index("stable-beluga-7b:Q5_K_M") < text.index("DEVICE")
    shutil.copytree(folder, home / "mine")
    (home / "mine" / "stable-beluga-7b-Q5_K_M.gguf").rename(home / "mine" / "mine-Q8_0.gguf")
    shutil.copy(tiny_gguf, home / "mine" / "mine-Q2_K.gguf")
    assert len(data_of(here("-m", "mine", *ELSEWHERE, "--json"))["levels"]) == 2
    assert data_of(here("-m", "mine:q2_k", *ELSEWHERE, "--json"))["chosen"] == "Q2_K"


@pytest.mark.parametrize("model", ["owner/Whale-GGUF:Q4_K_M", "owner/Whale-GGUF/w.Q4_K_M.gguf"])
def test_of_a_gguf_on_the_hub_only_the_beginning_is_read(
    ask: Ask, hub: HubServer, files: Path, model: str
) -> None:
    data = data_of(ask("-m", model, *ELSEWHERE, "--json"))
    assert data["model"] == "owner/Whale-GGUF"
    assert data["chosen"] == "Q4_K_M"
    size_bytes = (files / "w.gguf").stat().st_size
    assert data["levels"][0]["size_bytes"] == size_bytes
    assert data["levels"][0]["n_layers"] == 9
    assert 0 < hub.sent_bytes <= 1 << 20 < size_bytes / 20


def test_every_level_of_a_repository(ask: Ask, hub: HubServer) -> None:
    data = data_of(ask("-m", "owner/Whale-GGUF", *ELSEWHERE, "--json"))
    assert {level["level"] for level in data["levels"]} == {"Q4_K_M", "Q8_0"}
    assert all(level["fits_whole"] for level in data["levels"])
    assert hub.sent_bytes <= 1 << 20  # one header stands for all


def test_of_a_checkpoint_only_its_configuration_is_read(ask: Ask, hub: HubServer) -> None:
    data = data_of(ask("-m", "owner/Whale", *ELSEWHERE, "--json"))
    assert {level["origin"] for level in data["levels"]} == {"convert"}
    assert len(data["levels"]) > 20
    assert hub.sent_bytes < 2000
    one = data_of(ask("-m", "owner/Whale:q8_0", *ELSEWHERE, "--json"))
    assert one["chosen"] == "Q8_0"


def test_a_checkpoint_on_this_disk(here: Ask, files: Path) -> None:
    data = data_of(here("-m", files / "checkpoint", *ELSEWHERE, "--json"))
    assert data["model"] == "checkpoint"
    assert {level["n_layers"] for level in data["levels"]} == {5}


def test_what_the_hub_says_is_passed_on(ask: Ask) -> None:
    done = ask("-m", "owner/Poem", *ELSEWHERE)
    assert done.returncode == 1
    assert "neither a GGUF nor a checkpoint" in done.stderr
    done = ask("-m", "owner/Whale-GGUF:Q5_0", *ELSEWHERE)
    assert done.returncode == 1
    assert "has no level 'Q5_0'; there are Q4_K_M, Q8_0" in done.stderr
    away = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    assert ask("-m", "owner/Whale", *ELSEWHERE, **away).returncode == 4


def test_models_of_ones_own_without_a_shape(ask: Ask, tmp_path: Path, hub: HubServer) -> None:
    levels = "levels = { Q4_K_M = { file = 'w.Q4_K_M.gguf', size_gb = 0.0424 } }"
    own_models(
        tmp_path,
        ready=f'gguf = {{ repo = "owner/Whale-GGUF", revision = "main", {levels} }}',
        raw='checkpoints = [{ repo = "owner/Whale", revision = "main", format = "safetensors", '
        'dtype = "fp32", size_gb = 0.01 }]',
        nothing="",
    )
    assert data_of(ask("-m", "ready", *ELSEWHERE, "--json"))["chosen"] == "Q4_K_M"
    hub.reset_counts()
    assert len(data_of(ask("-m", "raw", *ELSEWHERE, "--json"))["levels"]) > 20
    assert hub.sent_bytes < 2000
    done = ask("-m", "nothing", *ELSEWHERE)
    assert done.returncode == 1
    assert "no source of it is known" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--gpu-memory", "5 bananas"), "--gpu-memory '5 bananas': is not a size"),
        (("--ram", "0"), "more than nothing"),
        (("--gpu-memory", "24"), "did you mean 24G?"),
        (("--gpu-margin", "-1G"), "--gpu-margin '-1G': is not a size"),
        (("--gpu-bandwidth", "fast"), "--gpu-bandwidth 'fast': is not a bandwidth"),
        (("--gpu-memory", "24G", "--gpu-bandwidth", "1,2"), "names 2 bandwidths"),
        (("--n-gpu-layers", "many"), "must be a number of layers, or auto"),
        (("--n-ctx", "5000"), "freewilly2:Q4_K_M takes 256 to 4096 tokens"),
        (("--workers", "::1"), "IPv4"),
        (("-m", ""), "the model's name is empty"),
    ],
)
def test_what_makes_no_sense_is_refused(here: Ask, arguments: tuple[str, ...], says: str) -> None:
    done = here("-m", "freewilly2:Q4_K_M", "--ram", "64G", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_draft_is_placed_first(here: Ask) -> None:
    asked = ("-m", "freewilly2:Q4_K_M", *ELSEWHERE)
    alone = data_of(here(*asked, "--json"))["levels"][0]
    both = data_of(here(*asked, "--draft", "stable-beluga-7b", "--json"))["levels"][0]
    assert "draft" not in alone
    assert both["draft"]["model"] == "stable-beluga-7b:Q4_K_M"  # the level that is pulled
    assert both["draft"]["n_gpu_layers"] == 33
    assert both["n_gpu_layers"] < alone["n_gpu_layers"]
    named = data_of(here(*asked, "--draft", "stable-beluga-7b:Q2_K", "--json"))["levels"][0]
    assert named["draft"]["level"] == "Q2_K"
    text = here(*asked, "--draft", "stable-beluga-7b").stdout
    assert text.index("draft: stable-beluga-7b:Q4_K_M") < text.index("freewilly2:Q4_K_M, context")


def test_the_draft_on_this_disk_is_counted_as_run_would(
    here: Ask, home: Path, tiny_gguf: Path
) -> None:
    asked = ("-m", "freewilly2:Q4_K_M", *ELSEWHERE, "--json")
    before = data_of(here(*asked))["levels"][0]
    folder = home / "stable-beluga-7b"
    folder.mkdir(parents=True)
    header_only = hollow_gguf(
        folder / "stable-beluga-7b-Q4_K_M.gguf", Shape(512, 1408, 8, 8, 4, vocab_size=32000)
    )
    found = data_of(here(*asked))["levels"][0]
    assert found["draft"]["model"] == header_only.name
    assert "draft" not in data_of(here(*asked, "--draft", "off"))["levels"][0]
    shutil.copy(tiny_gguf, header_only)  # of another vocabulary: nobody asked for it
    assert data_of(here(*asked))["levels"][0] == before


def test_levels_too_small_for_the_draft_go_without_it(here: Ask) -> None:
    asked = ("-m", "stable-beluga-13b", *ELSEWHERE, "--draft", "stable-beluga-7b")
    levels = {one["level"]: one for one in data_of(here(*asked, "--json"))["levels"]}
    assert levels["Q4_K_M"]["draft"]["n_gpu_layers"] == 33
    assert "stable-beluga-13b:IQ2_XXS" in levels["IQ2_XXS"]["draft"]["refusal"]
    assert "a draft must be smaller" in levels["IQ2_XXS"]["draft"]["refusal"]
    assert levels["IQ2_XXS"]["fits"].endswith(", no draft")
    assert "a draft must be smaller" in here("-m", "stable-beluga-13b:IQ2_XXS", *asked[2:]).stderr


def test_the_level_to_take_does_not_depend_on_which_have_room_for_the_draft(here: Ask) -> None:
    tight = ("-m", "freewilly2", "--gpu-memory", "8G", "--ram", "40G", "--json")
    alone = data_of(here(*tight))
    both = data_of(here(*tight, "--draft", "stable-beluga-7b"))
    assert both["best"] == alone["best"]
    fits = {level["level"]: level["fits"] for level in both["levels"]}
    assert fits["Q5_K_M"].endswith("layers, no draft")
    assert fits["Q3_K_S"].endswith("layers")


def test_a_file_that_says_which_model_it_is_has_its_draft(
    here: Ask, home: Path, tmp_path: Path
) -> None:
    shapes = [Shape(512, 1408, 8, 8, 4, vocab_size=512), Shape(64, 96, 1, 8, 4, vocab_size=512)]
    large = hollow_gguf(tmp_path / "mine.gguf", shapes[0], model="freewilly2")
    (home / "stable-beluga-7b").mkdir(parents=True)
    small = hollow_gguf(home / "stable-beluga-7b" / "stable-beluga-7b-Q4_K_M.gguf", shapes[1])
    (level,) = data_of(here("-m", large, *ELSEWHERE, "--json"))["levels"]
    assert level["draft"]["model"] == small.name


def test_a_damaged_level_is_not_in_the_way_of_another_ones_draft(here: Ask, home: Path) -> None:
    folder = home / "stable-beluga-7b"
    folder.mkdir(parents=True)
    (folder / "stable-beluga-7b-Q2_K.gguf").write_bytes(b"GGUF")
    whole = hollow_gguf(folder / "stable-beluga-7b-Q4_K_M.gguf", WIDE)
    done = here("-m", "freewilly2:Q4_K_M", *ELSEWHERE, "--draft", f"{folder / whole.name}")
    assert "has 512 tokens and not 32000" in done.stderr
    found = here("-m", "freewilly2:Q4_K_M", *ELSEWHERE, "--draft", "stable-beluga-7b")
    assert found.stderr == done.stderr


@pytest.mark.parametrize(
    ("draft", "code", "says"),
    [
        ("smollm2-135m", 2, "another vocabulary"),
        ("freewilly1:Q8_0", 2, "the draft freewilly1:Q8_0 has"),
        ("freewilly2:Q4_K_M", 2, "must be smaller"),
        ("nowhere.gguf", 1, "no such file"),
    ],
)
def test_what_cannot_draft_is_refused(here: Ask, draft: str, code: int, says: str) -> None:
    done = here("-m", "freewilly2:Q4_K_M", *ELSEWHERE, "--draft", draft)
    assert done.returncode == code
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_there_is_not(here: Ask) -> None:
    for model, says in (
        ("frewilly2", "did you mean freewilly2"),
        ("freewilly2:Q9", "has no level 'Q9'"),
        ("nowhere.gguf", "no such file"),
    ):
        done = here("-m", model, *ELSEWHERE)
        assert done.returncode == 1
        assert says in done.stderr
