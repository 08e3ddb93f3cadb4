"""config.toml: what it may say, and every way to get it wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from fwlocal.config import Config, config_folder, load_config
from fwlocal.errors import RegistryError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_workers(tmp_path: Path) -> None:
    write(tmp_path, 'workers = ["192.168.1.20:50052", "attic"]\n')

    assert load_config(tmp_path) == Config(workers=("192.168.1.20:50052", "attic"))


@pytest.mark.parametrize("text", ["", "workers = []\n", "\ufeff# mine\n"])
def test_what_is_not_there_has_its_default(tmp_path: Path, text: str) -> None:
    write(tmp_path, text)

    assert load_config(tmp_path) == Config()


def test_there_need_be_no_file(tmp_path: Path) -> None:
    assert load_config(tmp_path / "nowhere") == Config()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('worker = ["a:1"]', ": unknown key 'worker'; did you mean 'workers'?"),
        ("[workers]", ": workers: must be a list, not {}"),
        ('workers = "a:1"', ": workers: must be a list, not 'a:1'"),
        ('workers = ["a:1", 2]', ": workers[1]: must be a string, not 2"),
        ('workers = ["a:1", "b:0"]', ": workers[1]: 'b:0' has no port that could be one"),
        ('workers = ["a b"]', ": workers[0]: 'a b' is no worker's address"),
        ("workers = [", ": no valid TOML: "),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, text)

    with pytest.raises(RegistryError) as caught:
        load_config(tmp_path)

    assert str(caught.value).startswith(f"{path}{says}")
    assert "\n" not in str(caught.value)


def test_a_folder_or_other_bytes_of_that_name(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.mkdir()
    with pytest.raises(RegistryError, match="cannot be read"):
        load_config(tmp_path)
    path.rmdir()
    path.write_bytes(b"workers = '\xff'")
    with pytest.raises(RegistryError, match="not UTF-8 at byte 11"):
        load_config(tmp_path)


def test_it_lies_beside_models_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FWLOCAL_CONFIG", str(tmp_path))

    assert config_folder() == tmp_path
