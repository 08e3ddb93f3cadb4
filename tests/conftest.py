"""Shared fixtures: a tiny model, the real one, an isolated home, the program as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fwlocal.engine import Engine
from fwlocal.loader import EngineOptions, Library, open_file, open_model
from fwlocal.registry import DEFAULT_MODEL, Registry, load_registry
from fwlocal.store import Store, default_root
from tests import tiny_llama

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# A template with a control token of the tiny vocabulary at each turn's end.
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


@pytest.fixture(scope="session", autouse=True)
def _programs_hear_signals() -> None:
    """Where the tests themselves are started with signals ignored (in the background, by nohup),
    the programs that they start would inherit that; a handler they do not."""
    for name in ("SIGINT", "SIGHUP"):
        signum = getattr(signal, name, None)
        if signum is not None and signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, lambda *_: None)


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user's cache folder is neither read nor written, by the programs that tests start, too:
    what is remembered there of this machine would change how models are loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FWLOCAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with a chat template."""
    folder = tmp_path_factory.mktemp("tiny")
    return tiny_llama.write_gguf(folder / "tiny.gguf", template=TEMPLATE)


@pytest.fixture(scope="session")
def real_gguf() -> Path:
    """The embedded default model, fetched into the user's own store when it is missing."""
    library = Library(load_registry(), Store(default_root()))
    file, _ = open_file(DEFAULT_MODEL, library, lambda message: print(message, file=sys.stderr))
    return file.path


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """The shipped registry and an empty store."""
    return Library(load_registry(), Store(tmp_path / "models"))


@pytest.fixture
def registry() -> Registry:
    """The shipped models.toml alone."""
    return load_registry()


@pytest.fixture
def tiny_engine(tiny_gguf: Path, library: Library) -> Iterator[Engine]:
    """An engine on the random model, in the freewilly2 format."""
    options = EngineOptions(prompt_format="freewilly2", n_threads=1)
    with open_model(str(tiny_gguf), options, library=library).engine as engine:
        assert isinstance(engine, Engine)
        yield engine


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store and configuration for this process and the programs it starts."""
    for name in ("FWLOCAL_MODEL", "FWLOCAL_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FWLOCAL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FWLOCAL_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("FWLOCAL_SESSIONS", str(tmp_path / "sessions"))
    monkeypatch.setenv("FWLOCAL_HISTORY", str(tmp_path / "history.jsonl"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    return tmp_path / "home"


@pytest.fixture
def own_settings_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real store, but none of the developer's own settings."""
    for name in ("FWLOCAL_MODEL", "FWLOCAL_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FWLOCAL_CONFIG", str(tmp_path / "config"))


@pytest.fixture
def fwlocal() -> Run:
    """The program as a user starts it; ``stdin`` is text or bytes."""

    def run(
        *arguments: str | Path,
        stdin: str | bytes = b"",
        env: dict[str, str] | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "fwlocal", *map(str, arguments)],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            env={**os.environ, **(env or {})},
            timeout=timeout,
            check=False,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    return run
