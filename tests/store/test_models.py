"""From what a user types to a file on this disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from fwlocal.errors import ModelNotFound, StoreError
from fwlocal.library import Library
from fwlocal.store import ModelFile, StoredModel, locate
from fwlocal.store.manifest import Manifest, ManifestFile, write_manifest


def put(library: Library, name: str, file_name: str) -> Path:
    path = library.store.root / name / file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF")
    return path


def note(library: Library, name: str, level: str, **more: str) -> None:
    """A manifest for a stored level."""
    file = ManifestFile(f"{name}-{level}.gguf", 4, "a" * 64)
    manifest = Manifest(name, level, (file,), "download", more.pop("source", "owner/it"), **more)
    write_manifest(library.store.manifest_path(name, level), manifest)


def entries(library: Library) -> list[StoredModel]:
    return library.store.entries(library.registry)


def found(model: str, library: Library) -> ModelFile:
    return locate(model, library.registry, library.store)


def test_a_stored_level(library: Library) -> None:
    path = put(library, "stable-beluga-7b", "stable-beluga-7b-Q5_K_M.gguf")

    assert found("stable-beluga-7b:Q5_K_M", library).path == path
    assert found("stable-beluga-7b", library).level == "Q5_K_M"


def test_the_default_level_goes_first(library: Library) -> None:
    put(library, "stable-beluga-7b", "stable-beluga-7b-Q2_K.gguf")
    put(library, "stable-beluga-7b", "stable-beluga-7b-Q4_K_M.gguf")

    assert found("stable-beluga-7b", library).level == "Q4_K_M"


def test_a_file_under_its_published_name(library: Library) -> None:
    path = put(library, "freewilly2", "stablebeluga2-70B.Q4_K_M.gguf")

    file = found("freewilly2:Q4_K_M", library)

    assert (file.path, file.level) == (path, "Q4_K_M")


def test_a_level_of_ones_own(library: Library) -> None:
    put(library, "freewilly1", "freewilly1-IQ3_M.gguf")

    assert found("freewilly1", library).level == "IQ3_M"


def test_the_embedded_default_need_not_be_there_yet(library: Library) -> None:
    file = found("smollm2-135m", library)

    assert not file.path.exists()
    assert file.path.name == "smollm2-135m-Q4_1.gguf"
    assert file.sha256 is not None


def test_a_path(library: Library, tiny_gguf: Path) -> None:
    file = found(str(tiny_gguf), library)

    assert (file.name, file.path, file.spec) == ("tiny", tiny_gguf, None)


def test_a_path_to_a_stored_file_is_that_model(library: Library) -> None:
    path = put(library, "smollm2-135m", "smollm2-135m-Q4_1.gguf")

    file = found(str(path), library)

    assert file.spec is not None
    assert (file.spec.name, file.level) == ("smollm2-135m", "Q4_1")
    assert file.sha256 is None  # four bytes are not the file that was fetched


def test_a_folder_of_a_models_name_is_no_model(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "smollm2-135m").mkdir()
    monkeypatch.chdir(tmp_path)

    assert found("smollm2-135m", library).path.parent.parent == library.store.root


def test_a_store_that_is_no_folder(library: Library) -> None:
    library.store.root.parent.mkdir(parents=True, exist_ok=True)
    library.store.root.symlink_to(library.store.root)  # a loop: every look into it fails

    assert found("smollm2-135m", library).level == "Q4_1"


def test_a_path_with_a_published_name(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "stablebeluga-13b.Q4_K_M.gguf"
    path.write_bytes(b"GGUF")

    assert found(str(path), library).name == "stable-beluga-13b"


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("Whale:Q9", "Whale has no level 'Q9' on this disk; there is Q8_0"),
        ("wale", "did you mean Whale"),
        ("freewilly2:q4_k_m", "(41.4 GB); get it with `fwlocal pull freewilly2:Q4_K_M`"),
        ("owner/repo", "get it with `fwlocal pull owner/repo`"),
        ("frewilly2", "did you mean freewilly2"),
        ("./none.gguf", "no such file"),
        ("none.gguf", "no such file"),
        ("freewilly2", "fwlocal pull freewilly2:Q4_K_M"),
        ("freewilly2:Q9", "no level 'Q9'; there are Q2_K"),
        ("smollm2-135m:Q8_0", "no level 'Q8_0'; there is Q4_1"),
        ("freewilly1", "get it with `fwlocal pull freewilly1:Q4_K_M`, which converts it"),
        ("freewilly2:q8_0", "get it with `fwlocal pull freewilly2:Q8_0`, which converts it"),
        ("stable-beluga-1b", "did you mean stable-beluga-13b or stable-beluga-7b?"),
        ("owner/repo:Q4_K_M", "fwlocal pull owner/repo:Q4_K_M"),
    ],
)
def test_what_is_missing_is_told_with_the_way_to_get_it(
    library: Library, model: str, says: str
) -> None:
    put(library, "Whale", "Whale-Q8_0.gguf")
    put(library, "stable-beluga-7b", "stable-beluga-7b-Q2_K.gguf")

    with pytest.raises(ModelNotFound) as caught:
        found(model, library)

    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_that_the_registry_does_not_know(library: Library) -> None:
    path = put(library, "Llama-3.2-1B", "Llama-3.2-1B-Q4_K_M.gguf")
    other = put(library, "Llama-3.2-1B", "Llama-3.2-1B-IQ2_M.gguf")
    own = put(library, "things", "SomeModel.q8_0.gguf")

    for model in ("Llama-3.2-1B", "Llama-3.2-1B:Q4_K_M", "llama-3.2-1b:q4_k_m"):
        assert found(model, library) == ModelFile("Llama-3.2-1B", path, None, "Q4_K_M")
    assert found("Llama-3.2-1B:IQ2_M", library).path == other
    assert found("things:Q8_0", library).path == own
    assert [(m.name, m.level) for m in entries(library)] == [
        ("Llama-3.2-1B", "Q4_K_M"),
        ("Llama-3.2-1B", "IQ2_M"),
        ("things", "Q8_0"),
    ]


def test_a_repository_means_what_came_from_it(library: Library) -> None:
    put(library, "it", "it-Q2_K.gguf")
    path = put(library, "it", "it-Q8_0.gguf")
    note(library, "it", "Q8_0", source="Owner/It", prompt_format="chatml")

    for model in ("Owner/It", "owner/it:q8_0"):
        file = found(model, library)
        assert (file.path, file.prompt_format, file.sha256) == (path, "chatml", "a" * 64)
    with pytest.raises(ModelNotFound, match="fwlocal pull owner/it:Q2_K"):
        found("owner/it:Q2_K", library)


def test_a_hash_is_told_only_of_a_file_of_that_size(library: Library) -> None:
    path = put(library, "it", "it-Q8_0.gguf")
    note(library, "it", "Q8_0")
    assert found("it", library).sha256 == "a" * 64

    path.write_bytes(b"GGUF and more")

    assert found("it", library).sha256 is None


def test_a_split_level_is_one_entry_and_any_part_means_the_first(library: Library) -> None:
    parts = tuple(put(library, "it", f"it-F16-0000{n}-of-00002.gguf") for n in (1, 2))

    (entry,) = entries(library)

    assert (entry.level, entry.path, entry.files, entry.size_bytes) == ("F16", parts[0], parts, 8)
    assert found(str(parts[1]), library).path == parts[0]
    assert found(str(parts[1]), library).level == "F16"


def test_a_split_level_with_a_part_missing_is_none(library: Library) -> None:
    put(library, "it", "it-F16-00001-of-00003.gguf")
    put(library, "it", "it-F16-00003-of-00003.gguf")

    (broken,) = library.store.unfinished(library.registry)

    assert entries(library) == []
    assert [path.name for path in broken.missing] == ["it-F16-00002-of-00003.gguf"]
    with pytest.raises(ModelNotFound, match=r"incomplete: it-F16-00002-of-00003\.gguf is missing"):
        found("it", library)


def test_what_is_being_made_is_unfinished(library: Library) -> None:
    put(library, "it", ".it-Q8_0.gguf.partial")
    put(library, "freewilly2", ".freewilly2-F16-00002-of-00002.gguf.partial")
    put(library, "whole", "whole-Q8_0.gguf")
    put(library, "whole", ".whole-Q8_0.gguf.partial")

    unfinished = library.store.unfinished(library.registry)

    assert [(u.name, u.level, u.missing) for u in unfinished] == [
        ("freewilly2", "F16", ()),
        ("it", "Q8_0", ()),
        ("whole", "Q8_0", ()),
    ]
    assert [entry.name for entry in entries(library)] == ["whole"]


def test_our_own_name_goes_before_the_published_one(library: Library) -> None:
    put(library, "freewilly2", "stablebeluga2-70B.Q4_K_M.gguf")
    path = put(library, "freewilly2", "freewilly2-Q4_K_M.gguf")

    assert [entry.path for entry in entries(library)] == [path]


def test_what_is_no_model_is_passed_over(library: Library) -> None:
    put(library, "freewilly2", "imatrix.gguf")
    put(library, "it", "notes.txt")
    put(library, ".hidden", "it-Q8_0.gguf")
    put(library, "a\nb", "it-Q8_0.gguf")
    put(library, "", "stray.gguf")
    (library.store.root / "it" / "it-Q4_0.gguf").mkdir()
    loop = library.store.root / "it" / "it-Q8_0.gguf"
    loop.symlink_to(loop)
    folder = library.store.root / "loop"
    folder.symlink_to(folder)

    assert entries(library) == []
    assert library.store.unfinished(library.registry) == []


@pytest.mark.parametrize("content", ["", "{}", '{"added": "9999999-01-01"}', "\0"])
def test_a_manifest_of_nonsense_is_none(library: Library, content: str) -> None:
    put(library, "it", "it-Q8_0.gguf")
    library.store.manifest_path("it", "Q8_0").write_text(content)

    (entry,) = entries(library)

    assert entry.manifest is None


def test_a_folder_that_cannot_be_read_is_told_and_stops_no_other_file(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(library, "it", "it-Q8_0.gguf")
    elsewhere = tmp_path / "elsewhere.gguf"
    elsewhere.write_bytes(b"GGUF")

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)  # for root, every folder is readable

    with pytest.raises(StoreError, match=r"cannot be read \(Permission denied\); make it readable"):
        entries(library)
    assert found(str(elsewhere), library).path == elsewhere
