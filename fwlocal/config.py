"""config.toml: the user's own settings, as a frozen dataclass.

It lies beside the user's models.toml, and is as strict: an unknown key or a wrong type is an error
that names it. What is not there has its default. Whether a worker answers is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fwlocal.errors import RegistryError, UsageError
from fwlocal.registry import build, read_toml, user_file
from fwlocal.sizes import parse_size
from fwlocal.workers import parse_address

FILE_NAME = "config.toml"
KEYS = ("emacs", "vi")
DEFAULT_PREFIX_CACHE = "4G"


@dataclass(frozen=True)
class Config:
    """``workers`` are the addresses of other machines that lend their devices, ``HOST`` or
    ``HOST:PORT``; ``keys`` are those of the chat's editor, one of KEYS; ``prefix_cache`` is how
    large the cache of prompts may be, "0" for none."""

    workers: tuple[str, ...] = ()
    keys: str = KEYS[0]
    prefix_cache: str = DEFAULT_PREFIX_CACHE

    @property
    def prefix_cache_bytes(self) -> int:
        """The same in bytes."""
        return parse_size(self.prefix_cache, "prefix_cache", may_be_zero=True)


def config_folder() -> Path:
    """Where the user's config.toml and models.toml are: FWLOCAL_CONFIG, else the configuration
    folder. Raises RegistryError for a FWLOCAL_CONFIG that is no folder; it need not exist."""
    return user_file().parent


def load_config(folder: Path) -> Config:
    """The settings in ``folder``, the defaults if there is no config.toml.

    Raises RegistryError naming the file and the key for anything that is wrong in it.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return Config()
    config: Config = build(Config, read_toml(path), str(path), ": ")
    for index, worker in enumerate(config.workers):
        try:
            parse_address(worker)
        except UsageError as error:
            raise RegistryError(f"{path}: workers[{index}]: {error}") from error
    if config.keys not in KEYS:
        raise RegistryError(f"{path}: keys is {config.keys!r}; it must be one of {', '.join(KEYS)}")
    try:
        parse_size(config.prefix_cache, "prefix_cache", may_be_zero=True)
    except UsageError as error:
        raise RegistryError(f"{path}: {error}") from error
    return config
