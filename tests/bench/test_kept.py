"""What was measured is found again by its key, whatever happened in between."""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from fwlocal.bench.kept import Kept, key_of
from fwlocal.bench.measured import ChunkScores, EnergyUsed, Round
from fwlocal.bench.result import DeviceBytes, SpeedTest

KEY, OTHER = key_of(file="a"), key_of(file="b")
TG = SpeedTest(0, 128)


def a_round(tps: float) -> Round:
    """A round with everything in it."""
    return Round(
        ((SpeedTest(512, 0, 2048), tps * 10), (TG, tps)),
        0.5,
        None,
        10**9,
        3,
        30,
        (DeviceBytes("CPU", 1, 2, 3),),
        EnergyUsed("RAPL package-0", 1.5, 512, 2.5, 128),
    )


def a_chunk(seed: int, n: int = 9) -> ChunkScores:
    rng = np.random.default_rng(seed)
    nll, reference_nll, kld, dp = rng.random((4, n)).astype(np.float32)
    return ChunkScores(nll, reference_nll, kld, dp, rng.random(n) < 0.5, rng.random(n) < 0.1)


def same(a: list[ChunkScores], b: list[ChunkScores]) -> bool:
    names = [field.name for field in fields(ChunkScores)]
    return len(a) == len(b) and all(
        getattr(x, n).dtype == getattr(y, n).dtype and np.array_equal(getattr(x, n), getattr(y, n))
        for x, y in zip(a, b, strict=True)
        for n in names
    )


def files(folder: Path, key: str = KEY) -> list[str]:
    return sorted(path.name for path in (folder / key).iterdir())


def test_a_key_is_of_all_facts_in_any_order() -> None:
    assert len(KEY) == 64
    assert key_of(a=1, b=("x", None)) == key_of(b=["x", None], a=1)
    assert key_of(a=1) != key_of(a=2) != key_of(b=2)
    assert key_of(file=Path("/m/\udcff.gguf")) == key_of(file="/m/\udcff.gguf")
    assert key_of(options={"n_ctx": 512, "kv": "f16"}) == key_of(
        options={"kv": "f16", "n_ctx": 512}
    )


def test_nothing_is_kept_at_first_and_looking_makes_nothing(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    assert (kept.rounds(KEY), kept.scores(KEY), kept.answers(KEY)) == ([], [], None)
    kept.forget(KEY)
    assert not (tmp_path / "kept").exists()


def test_what_is_kept_is_found_by_the_next_run(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    kept.add_round(KEY, a_round(10.5))
    kept.add_round(KEY, a_round(11))
    kept.add_scores(KEY, [a_chunk(0), a_chunk(1, n=0)])
    kept.add_scores(KEY, [])
    kept.add_scores(KEY, [a_chunk(2)])
    kept.put_answers(KEY, [(1, 2, 3), ()])
    again = Kept(tmp_path / "kept")
    assert again.rounds(KEY) == [a_round(10.5), a_round(11)]
    assert same(again.scores(KEY), [a_chunk(0), a_chunk(1, n=0), a_chunk(2)])
    assert again.answers(KEY) == ((1, 2, 3), ())
    assert again.rounds(OTHER) == []
    assert not kept.problem


def test_a_round_takes_the_place_of_what_was_done_of_it(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    half = replace(a_round(2), speeds=a_round(2).speeds[:1])
    kept.add_round(KEY, a_round(1))
    kept.add_round(KEY, half, 1)
    assert kept.rounds(KEY) == [a_round(1), half]
    kept.add_round(KEY, a_round(2), 1)
    assert kept.rounds(KEY) == [a_round(1), a_round(2)]


def test_a_round_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.add_round(KEY, a_round(1))
    path = tmp_path / KEY / "round-0000.json"
    old = json.loads(path.read_bytes())
    del old["run_id"], old["started"]
    path.write_text(json.dumps(old), encoding="utf-8")
    assert kept.rounds(KEY) == [a_round(1)]


def test_scores_can_be_reckoned_with_and_changed(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.add_scores(KEY, [a_chunk(0)])
    (found,) = kept.scores(KEY)
    found.kld[:] = 0


def test_forgetting_is_for_measuring_anew(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.add_round(KEY, a_round(1))
    kept.add_round(OTHER, a_round(2))
    kept.forget(KEY)
    assert (kept.rounds(KEY), kept.rounds(OTHER)) == ([], [a_round(2)])
    kept.add_round(KEY, a_round(3))
    assert kept.rounds(KEY) == [a_round(3)]


# -- damage --------------------------------------------------------------------------------------

ROUND, SCORES, ANSWERS = "round-0001.json", "scores-000002-000002.bin", "answers.json"


def _filled(folder: Path) -> Kept:
    kept = Kept(folder)
    for i in range(3):
        kept.add_round(KEY, a_round(i + 1.0))
        kept.add_scores(KEY, [a_chunk(2 * i), a_chunk(2 * i + 1)])
    kept.put_answers(KEY, [(7,)])
    return kept


def _damaged(content: bytes, how: str) -> bytes:
    return {
        "cut": content[:-3],
        "longer": content + b"..",
        "empty": b"",
        "another": b'{"name": 1}\n',
        "bits": content[:10] + bytes([content[10] ^ 1]) + content[11:-2] + b"\xff\xff",
        "last bit": content[:-1] + bytes([content[-1] ^ 1]),
        "deep": b"[" * 100_000,
        "boast": b'{"lengths": [999999999999], "sha256": ""}\n' + content[-18:],
        "nonsense": b'{"lengths": [-1, true], "sha256": 7}\n',
    }[how]


@pytest.mark.parametrize(
    "how",
    ["cut", "longer", "empty", "another", "bits", "last bit", "deep", "boast", "nonsense"],
)
def test_a_damaged_file_is_measured_again(tmp_path: Path, how: str) -> None:
    kept = _filled(tmp_path)
    for name in (ROUND, SCORES, ANSWERS):
        path = tmp_path / KEY / name
        path.write_bytes(_damaged(path.read_bytes(), how))
    assert kept.rounds(KEY) == [a_round(1)]
    assert same(kept.scores(KEY), [a_chunk(0), a_chunk(1)])
    assert kept.answers(KEY) is None
    assert not {ROUND, SCORES, ANSWERS} & set(files(tmp_path))
    kept.add_round(KEY, a_round(2))
    kept.add_scores(KEY, [a_chunk(2)])
    kept.add_scores(KEY, [a_chunk(3)])
    kept.put_answers(KEY, [(7,)])
    assert kept.rounds(KEY) == [a_round(1), a_round(2), a_round(3)]
    assert same(kept.scores(KEY), [a_chunk(i) for i in range(6)])
    assert kept.answers(KEY) == ((7,),)


def test_scores_whose_lengths_are_not_their_own_are_damaged(tmp_path: Path) -> None:
    kept = _filled(tmp_path)
    path = tmp_path / KEY / SCORES
    path.write_bytes(path.read_bytes().replace(b"[9, 9]", b"[9, 8]"))
    assert len(kept.scores(KEY)) == 2
    assert not path.exists()


def test_stretches_that_overlap_count_once(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.add_scores(KEY, [a_chunk(0), a_chunk(1), a_chunk(2)], start=0)
    kept.add_scores(KEY, [a_chunk(0), a_chunk(1)], start=0)
    kept.add_scores(KEY, [a_chunk(2), a_chunk(3)], start=2)
    kept.add_scores(KEY, [a_chunk(9)], start=9)
    assert same(kept.scores(KEY), [a_chunk(i) for i in range(4)])


def test_what_a_kill_left_behind_is_no_measurement(tmp_path: Path) -> None:
    kept = _filled(tmp_path)
    (tmp_path / KEY / ".round-0003.json.77-abcd.new").write_bytes(b"{")
    (tmp_path / KEY / ".scores-000006-000002.bin.77-abcd.new").write_bytes(b"{")
    assert len(kept.rounds(KEY)) == 3
    assert len(kept.scores(KEY)) == 6


def _measure(folder: Path, seed: int) -> None:
    kept = Kept(folder)
    for i in range(12):
        kept.add_round(KEY, a_round(float(seed)))
        kept.add_scores(KEY, [a_chunk(i)], start=i)
        kept.rounds(KEY), kept.scores(KEY)


def test_two_processes_do_not_damage_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_measure, args=(tmp_path, i)) for i in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(Kept(tmp_path).rounds(KEY)) >= 12
    assert same(Kept(tmp_path).scores(KEY), [a_chunk(i) for i in range(12)])


def test_what_cannot_be_kept_is_told_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = Kept(tmp_path / "file")
    kept.add_round(KEY, a_round(1))
    kept.add_scores(KEY, [a_chunk(1)])
    kept.put_answers(KEY, [])
    assert kept.problem.startswith(f"not kept: {tmp_path / 'file'}")
    assert kept.rounds(KEY) == []
    assert "\n" not in kept.problem


# -- the limit -----------------------------------------------------------------------------------


def _used_at(folder: Path, key: str, seconds: int) -> None:
    os.utime(folder / key, (seconds, seconds))


def test_what_was_used_longest_ago_leaves(tmp_path: Path) -> None:
    keys = [key_of(file=i) for i in range(4)]
    for i, key in enumerate(keys):
        Kept(tmp_path).add_scores(key, [a_chunk(0, n=1000)])  # 18 kB
        _used_at(tmp_path, key, 1000 + i)
    (tmp_path / "notes").mkdir()
    Kept(tmp_path).scores(keys[0])  # used just now
    Kept(tmp_path, limit_bytes=60_000).add_scores(OTHER, [a_chunk(0, n=1000)])
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {keys[0], keys[3], OTHER, "notes"}


def test_what_a_run_uses_itself_stays(tmp_path: Path) -> None:
    kept = Kept(tmp_path, limit_bytes=1)
    kept.scores(OTHER)
    kept.add_scores(KEY, [a_chunk(0)])
    kept.add_scores(OTHER, [a_chunk(1)])
    assert len(kept.scores(KEY)) == len(kept.scores(OTHER)) == 1
