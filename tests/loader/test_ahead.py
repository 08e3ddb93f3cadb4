"""A draft is found, placed before its model, and left out where it cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fwlocal.errors import BadModelFile, DoesNotFit, ModelNotFound, UsageError
from fwlocal.gguf import GGUFHeader
from fwlocal.interrupts import Interrupt
from fwlocal.loader import EngineOptions, Library, find_draft, load, open_file
from fwlocal.loader.ahead import DraftFile, plan_with_draft
from fwlocal.loader.planning import Settled, Site, look_around, settle
from fwlocal.offload import Request
from fwlocal.sampling import SamplingParams
from fwlocal.store import ModelFile
from tests import tiny_llama, tiny_mamba
from tests.offload.models import machine
from tests.workers.loopback import LoopbackWorker

pytestmark = pytest.mark.usefixtures("home")
MIB = 1 << 20
REQUEST = Request(2048, kv_type="f16", margin_bytes=0)
LARGE = tiny_llama.Shape(
    hidden_size=256, intermediate_size=704, num_hidden_layers=12, max_position_embeddings=4096
)
SMALL = tiny_llama.Shape(hidden_size=128, num_hidden_layers=2, max_position_embeddings=1024)
GREEDY = SamplingParams(temperature=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, one that can draft for it, and some that cannot."""
    folder = tmp_path_factory.mktemp("models")
    tiny_llama.write_gguf(folder / "large.gguf", LARGE)
    tiny_llama.write_gguf(folder / "small.gguf", SMALL)
    tiny_mamba.write_gguf(folder / "mamba.gguf")
    whole = (folder / "small.gguf").read_bytes()
    (folder / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    (folder / "text.gguf").write_text("no model at all\n" * 20, encoding="utf-8")
    many = tuple((f"t{n}", -50.0, 1) for n in range(200))
    other = replace(SMALL, vocab_size=SMALL.vocab_size + len(many))
    tiny_llama.write_gguf(folder / "other.gguf", other, extra_tokens=many)
    return folder


@pytest.fixture
def target(folder: Path, library: Library) -> tuple[ModelFile, GGUFHeader]:
    return open_file(str(folder / "large.gguf"), library)


@pytest.fixture
def draft(folder: Path, target: tuple[ModelFile, GGUFHeader], library: Library) -> DraftFile:
    found = find_draft(str(folder / "small.gguf"), *target, library)
    assert found is not None
    return found


def with_draft(file: ModelFile, named: str | None, library: Library) -> ModelFile:
    """The file as one of a model of models.toml, which names that draft."""
    return replace(file, spec=replace(library.registry.models["freewilly2"], draft=named))


def test_a_draft_by_name(draft: DraftFile, folder: Path) -> None:
    assert draft.file.path == folder / "small.gguf"


def test_off_is_none(target: tuple[ModelFile, GGUFHeader], folder: Path, library: Library) -> None:
    file, header = target
    known = with_draft(file, str(folder / "small.gguf"), library)

    assert find_draft("off", known, header, library) is None


def test_auto_takes_the_one_of_models_toml(
    target: tuple[ModelFile, GGUFHeader], folder: Path, library: Library
) -> None:
    file, header = target
    known = with_draft(file, str(folder / "small.gguf"), library)

    found = find_draft("auto", known, header, library)

    assert found is not None
    assert found.file.path == folder / "small.gguf"


@pytest.mark.parametrize(
    "named",
    [
        None,
        "stable-beluga-7b",
        "nowhere.gguf",
        "large.gguf",
        "cut.gguf",
        "text.gguf",
        "other.gguf",
        "mamba.gguf",
    ],
)
def test_auto_is_silent_where_there_is_none(
    target: tuple[ModelFile, GGUFHeader],
    folder: Path,
    library: Library,
    named: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file, header = target
    named = str(folder / named) if named and named.endswith(".gguf") else named

    assert find_draft("auto", with_draft(file, named, library), header, library) is None
    assert find_draft("auto", file, header, library) is None, "of a model that nobody knows"
    assert not caplog.records


@pytest.mark.parametrize(
    ("named", "error", "said"),
    [
        ("nowhere.gguf", ModelNotFound, "no such file"),
        ("large.gguf", UsageError, "a draft must be smaller"),
        ("cut.gguf", BadModelFile, "truncated"),
        ("text.gguf", BadModelFile, "no GGUF file"),
        ("other.gguf", UsageError, "another vocabulary"),
        ("mamba.gguf", UsageError, "keeps a state"),
    ],
)
def test_a_draft_that_was_asked_for_is_refused_by_its_name(
    target: tuple[ModelFile, GGUFHeader],
    folder: Path,
    library: Library,
    named: str,
    error: type[Exception],
    said: str,
) -> None:
    with pytest.raises(error, match=said) as caught:
        find_draft(str(folder / named), *target, library)

    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_draft_that_is_not_on_this_disk_says_how_to_get_it(
    target: tuple[ModelFile, GGUFHeader], library: Library
) -> None:
    with pytest.raises(ModelNotFound, match="fwlocal pull stable-beluga-7b"):
        find_draft("stable-beluga-7b", *target, library)


class Planned:
    """The draft's place and the model's, on a site."""

    def __init__(
        self, draft: DraftFile, target: tuple[ModelFile, GGUFHeader], site: Site, request: Request
    ) -> None:
        self._path, self._header, self._request = target[0].path, target[1], request
        self.rest = site
        planned, self.model = plan_with_draft(
            draft, self._header, site, request, self._plan, Interrupt()
        )
        self.draft = planned.settled

    def _plan(self, site: Site, request: Request) -> Settled:
        self.rest = site
        return settle(self._path, self._header, site, request)


@pytest.fixture(scope="module")
def worker() -> Iterator[LoopbackWorker]:
    """Its device is a GPU to llama.cpp."""
    with LoopbackWorker() as worker:
        yield worker


def test_the_draft_goes_on_the_gpu_first(
    target: tuple[ModelFile, GGUFHeader], draft: DraftFile, worker: LoopbackWorker
) -> None:
    there = look_around([worker.address], n_threads=1)
    (gpu,) = there.machine.gpus
    alone = settle(target[0].path, target[1], there, REQUEST).plan
    half = replace(gpu, free_bytes=alone.gpus[0].total_bytes // 2)
    site = replace(there, machine=replace(there.machine, gpus=(half,)))

    planned = Planned(draft, target, site, REQUEST)

    assert planned.draft.plan.n_gpu_layers == planned.draft.plan.n_layers == 3
    left = half.free_bytes - planned.draft.plan.gpus[0].total_bytes
    assert planned.rest.machine.gpus[0].free_bytes == left
    assert planned.model.plan.gpus[0].total_bytes <= left
    without = settle(target[0].path, target[1], site, REQUEST).plan
    assert 0 < planned.model.plan.n_gpu_layers < without.n_gpu_layers < alone.n_gpu_layers


def test_a_number_of_layers_is_the_models_own(
    target: tuple[ModelFile, GGUFHeader], draft: DraftFile, worker: LoopbackWorker
) -> None:
    site = look_around([worker.address], n_threads=1)

    planned = Planned(draft, target, site, replace(REQUEST, n_gpu_layers=2))

    assert planned.draft.plan.n_gpu_layers == 3
    assert planned.model.plan.n_gpu_layers == 2


def test_no_layers_are_none_of_the_drafts_either(
    target: tuple[ModelFile, GGUFHeader], draft: DraftFile, worker: LoopbackWorker
) -> None:
    site = look_around([worker.address], n_threads=1)

    planned = Planned(draft, target, site, replace(REQUEST, n_gpu_layers=0))

    assert (planned.draft.plan.n_gpu_layers, planned.model.plan.n_gpu_layers) == (0, 0)


def test_the_draft_has_no_more_context_than_it_was_trained_on(
    target: tuple[ModelFile, GGUFHeader], draft: DraftFile
) -> None:
    planned = Planned(draft, target, Site(machine()), replace(REQUEST, n_ctx=4096))

    assert planned.draft.plan.n_ctx == 1024
    assert planned.model.plan.n_ctx == 4096


def test_what_the_draft_takes_of_the_ram_is_taken(
    target: tuple[ModelFile, GGUFHeader], draft: DraftFile
) -> None:
    site = Site(machine(ram_gib=1))

    planned = Planned(draft, target, site, REQUEST)

    taken = site.machine.ram.available_bytes - planned.rest.machine.ram.available_bytes
    assert taken == planned.draft.plan.host.total_bytes > 0


def test_without_memory_for_both_there_is_none(
    target: tuple[ModelFile, GGUFHeader], draft: DraftFile
) -> None:
    request = replace(REQUEST, flash_attn="on")  # which takes no more where there is more

    def alone(n_bytes: int) -> int:
        """What the model takes of a RAM of that size."""
        site = Site(machine(ram_gib=n_bytes / 2**30), n_threads=1)
        return settle(target[0].path, target[1], site, request).plan.host.total_bytes

    just = max(alone(2**30), alone(alone(2**30))) + MIB // 4
    assert alone(just) < just

    with pytest.raises(DoesNotFit):
        Planned(draft, target, Site(machine(ram_gib=just / 2**30), n_threads=1), request)


@pytest.mark.parametrize("workers", [False, True])
def test_a_model_with_its_draft_says_the_same(
    target: tuple[ModelFile, GGUFHeader], draft: DraftFile, worker: LoopbackWorker, workers: bool
) -> None:
    options = EngineOptions(
        workers=(worker.address,) if workers else (),
        n_ctx=1024,
        n_threads=1,
        prompt_format="freewilly2",
        prefix_bytes=0,
        lookup=False,
    )
    said: list[str] = []
    answers = []
    for named in (draft, None):
        loaded = load(*target, options, notify=said.append, draft=named)
        with loaded.engine as engine:
            generation = engine.generate([50, 51], sampling=GREEDY, max_tokens=12)
            answers.append("".join(generation))

    assert answers[0] == answers[1] != ""
    assert said == []
    assert bool(loaded.plan.gpus) == workers


@pytest.mark.parametrize("is_asked", [False, True])
def test_a_draft_in_the_place_of_the_models_layers_must_be_asked_for(
    target: tuple[ModelFile, GGUFHeader], draft: DraftFile, worker: LoopbackWorker, is_asked: bool
) -> None:
    site = look_around([worker.address], n_threads=1)
    alone = settle(target[0].path, target[1], site, REQUEST).plan
    own = settle(draft.file.path, draft.header, site, REQUEST).plan.gpus[0].total_bytes
    options = EngineOptions(
        workers=(worker.address,),
        n_ctx=REQUEST.n_ctx,
        n_threads=1,
        kv_type="f16",
        prompt_format="freewilly2",
        gpu_memory=(alone.gpus[0].total_bytes + own // 2,),
        gpu_margin=0,
    )
    said: list[str] = []

    loaded = load(*target, options, notify=said.append, draft=replace(draft, is_asked=is_asked))
    loaded.engine.close()

    assert (loaded.draft is not None) is is_asked
    assert (loaded.plan.n_gpu_layers < alone.n_gpu_layers) is is_asked
    (line,) = said
    assert "in the place of" in line
    assert ("--draft off may be faster" in line) is is_asked


def test_an_engine_that_is_lost_with_its_draft_comes_back(
    target: tuple[ModelFile, GGUFHeader], draft: DraftFile
) -> None:
    with LoopbackWorker() as own:
        options = EngineOptions(
            workers=(own.address,), n_ctx=1024, n_threads=1, prompt_format="freewilly2"
        )
        with load(*target, options, draft=draft).engine as engine:
            before = list(engine.generate([50, 51], sampling=GREEDY, max_tokens=8))
            own.restart()
            after = list(engine.generate([50, 51], sampling=GREEDY, max_tokens=8))

    assert "".join(before) == "".join(after) != ""


def test_both_stay_within_the_cap_of_a_gpu(
    target: tuple[ModelFile, GGUFHeader], draft: DraftFile, worker: LoopbackWorker
) -> None:
    site = look_around([worker.address], n_threads=1)
    alone = settle(target[0].path, target[1], site, REQUEST).plan.gpus[0].total_bytes
    request = replace(REQUEST, gpu_memory=(alone,), margin_bytes=0)

    planned = Planned(draft, target, site, request)

    together = (settled.plan.gpus[0].total_bytes for settled in (planned.draft, planned.model))
    assert sum(together) <= alone


def test_without_room_for_both_the_model_is_loaded_alone(
    target: tuple[ModelFile, GGUFHeader], draft: DraftFile, worker: LoopbackWorker
) -> None:
    site = look_around([worker.address], n_threads=1)
    alone = settle(target[0].path, target[1], site, REQUEST).plan
    options = EngineOptions(
        workers=(worker.address,),
        n_ctx=REQUEST.n_ctx,
        n_threads=1,
        n_gpu_layers=alone.n_layers,
        gpu_memory=(alone.gpus[0].total_bytes + MIB,),
        gpu_margin=0,
        kv_type="f16",
        prompt_format="freewilly2",
    )
    said: list[str] = []

    loaded = load(*target, options, notify=said.append, draft=draft)

    with loaded.engine as engine:
        assert list(engine.generate([50, 51], sampling=GREEDY, max_tokens=2))
    assert loaded.plan.n_gpu_layers == alone.n_layers
    (line,) = said
    assert line.startswith("no memory for the draft beside the model, so it goes without (")
