"""From a name to an engine: the choices, and what is refused before native code sees a file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fwlocal
from fwlocal import llama
from fwlocal.engine import Engine
from fwlocal.errors import BadModelFile, DoesNotFit, Interrupted, RegistryError, UsageError
from fwlocal.interrupts import Interrupt
from fwlocal.loader import EngineOptions, Library, default_sampling, load, open_file, open_model
from fwlocal.locks import held
from fwlocal.registry import load_registry
from fwlocal.store import Store
from fwlocal.store.manifest import Manifest, ManifestFile, read_manifest, write_manifest
from tests import tiny_llama


def test_a_files_own_template_is_its_format(tiny_gguf: Path, library: Library) -> None:
    loaded = open_model(str(tiny_gguf), library=library)

    assert loaded.prompt_format == "gguf"
    assert loaded.engine.system is None
    loaded.engine.close()


def test_without_a_template_the_user_must_name_a_format(tmp_path: Path, library: Library) -> None:
    path = tiny_llama.write_gguf(tmp_path / "bare.gguf")

    with pytest.raises(UsageError, match=r"--prompt-format \(freewilly2, freewilly1, chatml\)"):
        open_model(str(path), library=library)

    loaded = open_model(str(path), EngineOptions(prompt_format="freewilly1"), library=library)
    assert loaded.prompt_format == "freewilly1"
    loaded.engine.close()


def test_a_registry_models_file_has_its_format_and_system_text(
    tmp_path: Path, library: Library
) -> None:
    path = tiny_llama.write_gguf(tmp_path / "stablebeluga2-70B.Q4_K_M.gguf")

    loaded = open_model(str(path), library=library)

    assert loaded.prompt_format == "freewilly2"
    assert loaded.engine.system is not None
    assert loaded.engine.system.startswith("You are Free Willy")
    assert loaded.engine.sampling.top_k == 0
    loaded.engine.close()


def test_an_unknown_format(tiny_gguf: Path, library: Library) -> None:
    with pytest.raises(UsageError, match="'alpaca'; there are freewilly2"):
        open_model(str(tiny_gguf), EngineOptions(prompt_format="alpaca"), library=library)


@pytest.mark.parametrize("n_ctx", [100, 513, 10**9])
def test_contexts_outside_what_the_model_knows(
    tiny_gguf: Path, library: Library, n_ctx: int
) -> None:
    with pytest.raises(UsageError, match=rf"--n-ctx {n_ctx}: tiny\.gguf takes 256 to 512"):
        open_model(str(tiny_gguf), EngineOptions(n_ctx=n_ctx), library=library)


@pytest.mark.parametrize(
    ("n_ctx", "holds"), [(256, 256), (300, 512), (512, 512), (0, 512), (None, 512)]
)
def test_contexts(tiny_gguf: Path, library: Library, n_ctx: int | None, holds: int) -> None:
    with open_model(str(tiny_gguf), EngineOptions(n_ctx=n_ctx), library=library).engine as engine:
        assert isinstance(engine, Engine)
        list(engine.generate([5], max_tokens=1))
        assert engine.cache.n_ctx == holds


@pytest.mark.parametrize(
    "wrong",
    [{"kv_type": "q5_0"}, {"flash_attn": "maybe"}, {"n_threads": 0}, {"n_gpu_layers": -7}],
)
def test_options_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        EngineOptions(**wrong)


def test_an_error_of_the_progress_display_comes_out(tiny_gguf: Path, library: Library) -> None:
    def fail(fraction: float) -> None:
        raise KeyboardInterrupt

    file, header = open_file(str(tiny_gguf), library)
    with pytest.raises(KeyboardInterrupt):
        load(file, header, EngineOptions(), on_progress=fail)


def test_a_raw_prompt_needs_no_format(tmp_path: Path, library: Library) -> None:
    path = tiny_llama.write_gguf(tmp_path / "bare.gguf")

    with open_model(str(path), EngineOptions(raw=True), library=library).engine as engine:
        generation = engine.generate([5], max_tokens=1)
        list(generation)
        assert generation.result.completion_tokens == 1
        with pytest.raises(UsageError, match="no prompt format"):
            engine.chat([{"role": "user", "content": "x"}])


def test_layers_on_no_gpu_are_told(tiny_gguf: Path, library: Library) -> None:
    notes: list[str] = []
    file, header = open_file(str(tiny_gguf), library)
    load(file, header, EngineOptions(n_gpu_layers=2), notify=notes.append).engine.close()

    has_gpu = any("GPU" in device.kind for device in llama.devices())
    assert bool(notes) != has_gpu


def test_a_quantized_kv_cache_needs_flash_attention() -> None:
    with pytest.raises(UsageError, match="needs flash attention"):
        EngineOptions(kv_type="q8_0", flash_attn="off")


def test_a_model_that_does_not_fit_the_memory(tmp_path: Path, library: Library) -> None:
    shape = tiny_llama.Shape(max_position_embeddings=2**30)
    path = tiny_llama.write_gguf(tmp_path / "endless.gguf", shape)

    with pytest.raises(DoesNotFit, match=r"endless\.gguf needs .* GiB of RAM are free"):
        open_model(str(path), EngineOptions(n_ctx=2**30, prompt_format="chatml"), library=library)


def test_a_sound_header_that_llama_cpp_refuses(tmp_path: Path, library: Library) -> None:
    path = tiny_llama.write_gguf(tmp_path / "odd.gguf")
    path.write_bytes(path.read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_op.weight"))

    with pytest.raises(BadModelFile, match=r"odd\.gguf: llama\.cpp cannot load it: .*ffn_up"):
        open_model(str(path), EngineOptions(prompt_format="chatml"), library=library)


def test_a_load_can_be_stopped(tiny_gguf: Path, library: Library) -> None:
    interrupt = Interrupt()
    interrupt.set(15)
    file, header = open_file(str(tiny_gguf), library)

    with pytest.raises(Interrupted) as caught:
        load(file, header, EngineOptions(), interrupt=interrupt)
    assert caught.value.exit_code == 143


def test_sampling_outside_its_range_names_the_entry(tmp_path: Path) -> None:
    own = tmp_path / "models.toml"
    own.write_text(
        '[mine]\ntitle = ""\nparameters = ""\nprompt_format = "chatml"\nsystem = ""\n'
        'context_length = 1\ndefault_level = "Q8_0"\nsampling = { top_p = 7 }\n'
        'licence = { name = "MIT", note = "", non_commercial = false }\n'
    )
    library = Library(load_registry(own), Store(tmp_path))

    with pytest.raises(RegistryError, match=r"mine\.sampling: top_p is 7"):
        default_sampling(library.registry.get("mine"))


def test_the_python_api(tiny_gguf: Path, home: Path) -> None:
    engine = fwlocal.load(str(tiny_gguf), n_ctx=256)

    answer = engine.chat([{"role": "user", "content": "the whale"}], max_tokens=5)
    text = "".join(answer)

    assert answer.result.text == text
    engine.close()


def test_mmap_and_mlock(tiny_gguf: Path, library: Library) -> None:
    texts = set()
    for mmap, mlock in ((True, False), (False, False), (True, True), (False, True)):
        options = EngineOptions(mmap=mmap, mlock=mlock)
        with open_model(str(tiny_gguf), options, library=library).engine as engine:
            params = engine.sampling.updated({"temperature": 0})
            texts.add("".join(engine.generate([5, 6], sampling=params, max_tokens=5)))
    assert len(texts) == 1


def stored(library: Library, tiny_gguf: Path, **more: str) -> Path:
    """The tiny model as a level of the store, with a manifest."""
    path = library.store.path("whale", "F32")
    path.parent.mkdir(parents=True)
    shutil.copy(tiny_gguf, path)
    file = ManifestFile(path.name, path.stat().st_size, None)
    manifest = Manifest("whale", "F32", (file,), "download", "owner/whale", **more)
    write_manifest(library.store.manifest_path("whale", "F32"), manifest)
    return path


def test_a_stored_models_format_is_the_one_it_was_stored_with(
    tiny_gguf: Path, library: Library
) -> None:
    stored(library, tiny_gguf, prompt_format="freewilly1")

    for asked, chosen in ((None, "freewilly1"), ("chatml", "chatml")):
        loaded = open_model("whale", EngineOptions(prompt_format=asked), library=library)
        assert loaded.prompt_format == chosen
        loaded.engine.close()


def test_a_format_of_nonsense_in_a_manifest_is_none(tiny_gguf: Path, library: Library) -> None:
    stored(library, tiny_gguf, prompt_format="alpaca")

    loaded = open_model("whale", library=library)

    assert loaded.prompt_format == "gguf"
    loaded.engine.close()


def test_the_last_use_is_noted(tiny_gguf: Path, library: Library) -> None:
    stored(library, tiny_gguf, last_used="9024-01-31T12:00:00Z")  # the clock was wrong
    manifest_path = library.store.manifest_path("whale", "F32")
    before = read_manifest(manifest_path)

    open_model("whale", library=library).engine.close()

    after = read_manifest(manifest_path)
    assert before is not None
    assert after is not None
    assert after.last_used.startswith("2")
    assert replace(after, last_used=before.last_used) == before
    assert len(list(manifest_path.parent.iterdir())) == 2  # nothing else is left


def test_a_lock_held_by_another_costs_the_note_alone(tiny_gguf: Path, library: Library) -> None:
    path = stored(library, tiny_gguf)
    before = library.store.manifest_path("whale", "F32").read_bytes()

    with held(path, "fetching it"):
        open_model("whale", library=library).engine.close()

    assert library.store.manifest_path("whale", "F32").read_bytes() == before


@pytest.mark.parametrize(
    ("road", "source", "command"),
    [
        ("download", "owner/whale", "fwlocal pull owner/whale:F32 --overwrite"),
        ("convert", "whale", "fwlocal convert whale --quant F32 --name whale --overwrite"),
        ("import", "a b.gguf", "fwlocal import 'a b.gguf' --name whale:F32 --overwrite"),
        (None, "", "fwlocal import FILE --name whale:F32 --overwrite"),
    ],
)
def test_a_damaged_stored_file_names_the_way_back(
    tiny_gguf: Path, library: Library, road: str | None, source: str, command: str
) -> None:
    path = stored(library, tiny_gguf)
    manifest_path = library.store.manifest_path("whale", "F32")
    manifest = read_manifest(manifest_path)
    assert manifest is not None
    manifest_path.unlink()
    if road:
        write_manifest(manifest_path, replace(manifest, road=road, source=source))
    path.write_bytes(path.read_bytes()[:-1000])

    with pytest.raises(BadModelFile) as caught:
        open_file("whale", library)

    assert str(caught.value).endswith(f"on disk; get it back with `{command}`")


def test_a_damaged_file_of_a_known_model(library: Library) -> None:
    path = library.store.path("freewilly2", "Q4_K_M")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no model at all, but longer than a header")

    with pytest.raises(BadModelFile, match="`fwlocal pull freewilly2:Q4_K_M --overwrite`"):
        open_file("freewilly2", library)


@pytest.fixture
def split_gguf(tmp_path: Path) -> list[Path]:
    """A model in several files."""
    whole = tiny_llama.write_gguf(tmp_path / "wide.gguf", tiny_llama.Shape(256, 256, 2, 4, 2))
    arguments = ["convert", str(whole), "--quant", "F32", "--split-size", "1M", "--name", "wide"]
    command = [sys.executable, "-m", "fwlocal", *arguments, "--out", str(tmp_path / "out")]
    subprocess.run(command, check=True, capture_output=True)
    return sorted((tmp_path / "out").glob("*.gguf"))


def test_any_part_of_a_split_model_loads_it_all(split_gguf: list[Path], library: Library) -> None:
    options = EngineOptions(prompt_format="chatml")
    loaded = open_model(str(split_gguf[1]), options, library=library)

    assert loaded.file.path == split_gguf[0]
    assert len(loaded.header.tensors) == 21
    loaded.engine.close()


def test_a_split_model_needs_all_its_parts(split_gguf: list[Path], library: Library) -> None:
    lost = split_gguf.pop()
    lost.unlink()
    with pytest.raises(BadModelFile, match=f"{lost.name}: missing: one of"):
        open_file(str(split_gguf[0]), library)
    alone = split_gguf[1].rename(split_gguf[1].with_name("alone.gguf"))
    with pytest.raises(BadModelFile, match=r"alone\.gguf: part 2 of a model in . files; name the"):
        open_file(str(alone), library)
