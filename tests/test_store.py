"""From what a user types to a file on this disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from fwlocal.errors import ModelNotFound
from fwlocal.loader import Library
from fwlocal.store import ModelFile, locate


def put(library: Library, name: str, file_name: str) -> Path:
    path = library.store.root / name / file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF")
    return path


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
        ("frewilly2", "did you mean freewilly2"),
        ("./none.gguf", "no such file"),
        ("none.gguf", "no such file"),
        ("freewilly2", "hf download TheBloke/StableBeluga2-70B-GGUF stablebeluga2-70B.Q4_K_M.gguf"),
        ("freewilly2:Q9", "no level 'Q9'; there are Q2_K"),
        ("smollm2-135m:Q8_0", "no level 'Q8_0'; there is Q4_1"),
        ("freewilly1", "no GGUF of it is published"),
        ("owner/repo:Q4_K_M", "hf download owner/repo"),
    ],
)
def test_what_is_missing_is_told_with_the_way_to_get_it(
    library: Library, model: str, says: str
) -> None:
    with pytest.raises(ModelNotFound) as caught:
        found(model, library)
    assert says in str(caught.value)
