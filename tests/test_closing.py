"""What an engine holds is freed, and what it learned is kept, also where waiting is cut short."""

from __future__ import annotations

import pytest

from fwlocal.draft import Drafting
from fwlocal.engine import Engine
from fwlocal.prefix_cache import NoPrefixes


class Impatient(NoPrefixes):
    """Ctrl-C comes once, while an entry is being written."""

    is_closed = False

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            raise KeyboardInterrupt


class Learned(Drafting):
    """Notes that it was closed, and fails once."""

    is_closed = False

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            raise OSError("the disk is full")


def is_freed(engine: Engine) -> bool:
    """Whether neither context nor model is there any more."""
    with pytest.raises(RuntimeError, match="no context"):
        _ = engine.cache.context
    with pytest.raises(RuntimeError, match="closed"):
        engine.text_tokens("hi")
    return True


def test_ctrl_c_while_a_prompt_is_written(tiny_engine: Engine) -> None:
    list(tiny_engine.generate(tiny_engine.text_tokens("the whale"), max_tokens=2))
    tiny_engine._prefixes = Impatient()

    with pytest.raises(KeyboardInterrupt):
        tiny_engine.close()

    assert is_freed(tiny_engine)


def test_one_that_fails_does_not_keep_the_others(tiny_engine: Engine) -> None:
    list(tiny_engine.generate(tiny_engine.text_tokens("the whale"), max_tokens=2))
    tiny_engine._prefixes = Impatient()
    tiny_engine._drafting = learned = Learned.off()

    with pytest.raises(KeyboardInterrupt):
        tiny_engine.close()

    assert isinstance(learned, Learned)
    assert learned.is_closed
    assert is_freed(tiny_engine)
