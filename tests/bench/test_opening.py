"""A level loaded to be measured: by plan, within memory, and freed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fwlocal import llama
from fwlocal.bench.measured import Entrant
from fwlocal.bench.opening import open_level, plan_level
from fwlocal.errors import BadModelFile, DoesNotFit, Interrupted
from fwlocal.interrupts import Interrupt
from fwlocal.loader import EngineOptions, Library, open_file

OPTIONS = EngineOptions(n_threads=1, n_gpu_layers=0, kv_type="f16")


@pytest.fixture
def entrant(tiny_gguf: Path, library: Library) -> Entrant:
    return Entrant("F32", *open_file(str(tiny_gguf), library))


def test_a_level_and_what_it_took(entrant: Entrant) -> None:
    shown: list[float] = []
    with open_level(entrant, OPTIONS, 512, on_progress=shown.append) as opened:
        host = opened.settled.plan.host

        assert shown[-1] == 1
        assert opened.load_s > 0
        (taken,) = opened.devices
        assert taken.device == "CPU"
        # The log rounds to hundredths of a MiB.
        assert taken.weights == pytest.approx(host.weights_bytes, abs=2**14)
        assert taken.kv == pytest.approx(host.kv_bytes, abs=2**14)
        assert taken.compute > 0


def test_contexts_as_planned_and_others(entrant: Entrant) -> None:
    with open_level(entrant, OPTIONS, 300) as opened:
        planned, small, again = opened.context(), opened.context(256), opened.context()

        assert [planned.n_ctx, small.n_ctx, again.n_ctx] == [512, 256, 512]
        assert planned.decode([1, 2, 3])
        assert (planned.cached(), again.cached()) == (3, 0)


def test_the_first_context_gives_way_to_another(entrant: Entrant) -> None:
    with open_level(entrant, OPTIONS, 512) as opened:
        context = opened.context(256)
        assert context.decode([1, 2, 3])
        assert context.cached() == 3


def test_everything_is_freed_at_the_end(entrant: Entrant) -> None:
    freed: list[llama.Context | llama.Model] = []

    def fail() -> None:
        with open_level(entrant, OPTIONS, 512) as opened:
            freed.extend((opened.context(), opened.context(256), opened.model))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert len(freed) == 3
    for one in freed:
        with pytest.raises(RuntimeError, match="is closed"):
            _ = one.handle


def test_the_engines_own_context_does_not_count(entrant: Entrant) -> None:
    options = EngineOptions(n_ctx=256, n_threads=1, n_gpu_layers=0, shrink_context=True)

    assert plan_level(entrant, options, 512).plan.n_ctx == 512


def test_a_level_that_does_not_fit_is_not_loaded(entrant: Entrant) -> None:
    loaded: list[float] = []
    with pytest.raises(DoesNotFit, match=r"tiny\.gguf needs .* GiB of RAM are free"):
        open_level(entrant, OPTIONS, 2**34, on_progress=loaded.append)
    assert not loaded


def test_a_larger_context_that_does_not_fit(entrant: Entrant) -> None:
    with (
        open_level(entrant, OPTIONS, 512) as opened,
        pytest.raises(DoesNotFit, match=r"a context of \d+ tokens needs .* GiB more on CPU"),
    ):
        opened.context(2**34)


def test_a_file_that_llama_cpp_refuses(tmp_path: Path, entrant: Entrant, library: Library) -> None:
    path = tmp_path / "odd.gguf"
    tiny = entrant.file.path.read_bytes()
    path.write_bytes(tiny.replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_op.weight"))

    with pytest.raises(BadModelFile, match=r"odd\.gguf: llama\.cpp cannot load it: .*ffn_up"):
        open_level(Entrant("odd", *open_file(str(path), library)), OPTIONS, 512)


def test_a_load_can_be_stopped(entrant: Entrant) -> None:
    interrupt = Interrupt()
    interrupt.set(15)

    with pytest.raises(Interrupted) as caught:
        open_level(entrant, OPTIONS, 512, interrupt=interrupt)
    assert caught.value.exit_code == 143


def test_logits_of_all_positions(entrant: Entrant) -> None:
    tokens = [1, 260, 261, 262]
    with open_level(entrant, OPTIONS, 512) as opened:
        with opened.evaluation(512) as evaluation:
            assert isinstance(evaluation, llama.Evaluation)
            (logits,) = evaluation.batches(tokens, 1)
            assert logits.shape == (3, opened.model.n_vocab)
            last = logits[-1].copy()
        context = opened.context()
        context.decode(tokens)

        assert last == pytest.approx(context.logits(), abs=1e-2)
    with pytest.raises(RuntimeError, match="is closed"):
        _ = evaluation.handle
