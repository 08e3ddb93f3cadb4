"""A child: messages both ways, and every way in which it can end."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fwlocal import errors
from fwlocal.children import Child, ChildDied, ChildFailed
from fwlocal.errors import FwlocalError, Interrupted

AT_WORK = "tests.child_at_work"
ROOT = Path(__file__).parents[1]
posix = pytest.mark.skipif(os.name == "nt", reason="signals")


@pytest.fixture
def child() -> Iterator[Child]:
    with Child(AT_WORK) as child:
        yield child


@pytest.fixture(scope="module")
def long_lived() -> Iterator[Child]:
    with Child(AT_WORK) as child:
        yield child


def ask(child: Child, *message: object) -> object:
    """The first reply to a message."""
    child.send(message)
    return child.receive(timeout_s=30)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.none(), st.binary(), st.text(), st.integers(), st.dictionaries(st.text(), st.text())
        ),
        min_size=1,
    )
)
def test_messages_come_back_as_they_went(long_lived: Child, said: list[object]) -> None:
    long_lived.send(("echo", *said))

    assert [long_lived.receive(30) for _ in said] == said


def test_large_messages_block_neither_side(child: Child) -> None:
    large = os.urandom(1 << 20)
    for _ in range(8):
        child.send(("echo", large))

    assert all(child.receive(30) == large for _ in range(8))


def test_messages_wait_for_their_turn(child: Child) -> None:
    for number in range(5):
        child.send(("echo", number))

    assert [child.receive(30) for _ in range(5)] == [0, 1, 2, 3, 4]


def test_a_child_gets_arguments_and_searches_modules_where_its_parent_does() -> None:
    with Child(AT_WORK, ["one", "two words"]) as child:
        assert ask(child, "arguments") == ["one", "two words"]
        assert ask(child, "search_path") == [str(folder) for folder in sys.path]


def test_a_file_in_the_working_folder_hides_no_module(tmp_path: Path) -> None:
    for name in ("queue", "pickle", "runpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    code = (
        f"import sys; sys.path[0] = {str(ROOT)!r}; from fwlocal.children import Child\n"
        f"with Child({AT_WORK!r}) as child:\n"
        "    child.send(('echo', 'right'))\n"
        "    print(child.receive(30))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.stdout == "right\n"


def test_what_a_child_prints_is_no_message(capfd: pytest.CaptureFixture[str]) -> None:
    with Child(AT_WORK) as child:
        assert ask(child, "shout") == ""
        assert ask(child, "echo", 1) == 1

    out, err = capfd.readouterr()
    assert out == ""
    assert err.split("\n")[:2] == ["printed by Python", "printed by native code"]


LEAVES = [error for error in vars(errors).values() if isinstance(error, type) and error.__module__]


@pytest.mark.parametrize("kind", [kind for kind in LEAVES if issubclass(kind, FwlocalError)])
def test_a_users_error_comes_over_as_it_was(long_lived: Child, kind: type[FwlocalError]) -> None:
    assert ask(long_lived, "fail", kind.__name__, "the file is gone") == "so far"
    with pytest.raises(kind) as caught:
        long_lived.receive(30)

    here = kind("the file is gone")
    assert type(caught.value) is kind
    assert (str(caught.value), caught.value.exit_code) == (str(here), here.exit_code)


def test_an_exit_code_of_its_own_comes_over(child: Child) -> None:
    child.send(("terminated",))

    with pytest.raises(Interrupted, match="terminated") as caught:
        child.receive(30)
    assert caught.value.exit_code == 143


def test_a_bug_comes_over_in_words_and_the_child_goes_on(child: Child) -> None:
    child.send(("bug",))

    with pytest.raises(ChildFailed) as caught:
        child.receive(30)

    assert str(caught.value) == "ValueError: a wrong value"
    assert ask(child, "echo", 1) == 1


def test_a_bug_brings_its_traceback_when_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FWLOCAL_DEBUG", "1")
    with Child(AT_WORK) as child:
        child.send(("bug",))
        with pytest.raises(ChildFailed, match=r"child_at_work\.py"):
            child.receive(30)


def test_silence_is_a_timeout_and_no_harm(child: Child) -> None:
    assert ask(child, "echo", 1) == 1
    started = time.monotonic()

    with pytest.raises(TimeoutError):
        child.receive(0.1)

    assert 0.1 <= time.monotonic() - started < 5
    assert ask(child, "echo", 2) == 2


@posix
def test_a_killed_child_is_told_and_reaped(child: Child) -> None:
    assert ask(child, "sleep") == "asleep"
    os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(ChildDied) as caught:
        child.receive(30)

    assert str(caught.value) == "ended by SIGKILL"
    assert (caught.value.status, caught.value.last_words) == (-signal.SIGKILL, None)
    assert not child.is_alive
    assert not psutil.pid_exists(child.pid)  # not even as a zombie


def test_a_dead_child_stays_dead(child: Child) -> None:
    child.send(("leave", 3))
    for _ in range(2):
        with pytest.raises(ChildDied, match="exit status 3"):
            child.receive(30)
    with pytest.raises(ChildDied, match="exit status 3"):
        child.send(("echo", 1))
    child.interrupt()


def test_what_was_said_before_death_is_heard(child: Child) -> None:
    child.send(("echo", 1, 2))
    child.send(("leave", 0))

    assert [child.receive(30), child.receive(30)] == [1, 2]
    with pytest.raises(ChildDied, match="exit status 0"):
        child.receive(30)


def test_a_failed_check_of_llama_cpp_has_last_words(child: Child) -> None:
    assert ask(child, "abort") == "still here"

    with pytest.raises(ChildDied) as caught:
        child.receive(30)

    assert caught.value.last_words == "whale.cpp:7: the sea is gone"
    assert str(caught.value) == "whale.cpp:7: the sea is gone"
    assert caught.value.status == 134


def test_last_words_are_heard_also_by_who_only_speaks(child: Child) -> None:
    assert ask(child, "abort") == "still here"

    def go_on_speaking() -> None:
        for _ in range(300):
            child.send(("echo", 1))
            time.sleep(0.05)

    with pytest.raises(ChildDied, match="the sea is gone"):
        go_on_speaking()


def test_an_interrupt_reaches_a_child_in_native_code(child: Child) -> None:
    assert ask(child, "work") == "busy"
    started = time.monotonic()

    child.interrupt(signal.SIGTERM)

    assert child.receive(30) == signal.SIGTERM
    assert time.monotonic() - started < 5


def test_an_interrupt_is_for_the_last_message_alone(child: Child) -> None:
    child.send(("echo", 1))
    child.interrupt()  # too late, or never heard: it must not stop what comes
    assert child.receive(30) == 1
    assert ask(child, "work") == "busy"
    with pytest.raises(TimeoutError):
        child.receive(0.3)

    child.interrupt()
    assert child.receive(30) == signal.SIGINT


def test_an_interrupt_waits_with_the_message_that_it_is_for(child: Child) -> None:
    assert ask(child, "work") == "busy"
    child.interrupt()
    child.send(("work",))
    child.interrupt(signal.SIGTERM)

    assert [child.receive(30) for _ in range(3)] == [signal.SIGINT, "busy", signal.SIGTERM]


@posix
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signals_of_the_terminal_are_the_parents_business(signum: int) -> None:
    with Child(AT_WORK) as child:
        os.kill(child.pid, signum)  # while it starts
        assert ask(child, "echo", 1) == 1
        os.kill(child.pid, signum)
        assert ask(child, "echo", 2) == 2


def test_close_ends_a_child_that_is_busy() -> None:
    child = Child(AT_WORK)
    assert ask(child, "sleep") == "asleep"
    assert child.is_alive
    started = time.monotonic()

    child.close()
    child.close()

    assert time.monotonic() - started < 1.5
    assert not child.is_alive
    assert not psutil.pid_exists(child.pid)
    with pytest.raises(ChildDied):
        child.receive(30)


@posix
def test_close_ends_a_child_that_does_not_listen() -> None:
    child = Child(AT_WORK)
    assert ask(child, "sleep") == "asleep"
    os.kill(child.pid, signal.SIGSTOP)

    child.close()

    assert not psutil.pid_exists(child.pid)


def test_a_forgotten_child_ends() -> None:
    child = Child(AT_WORK)
    assert ask(child, "sleep") == "asleep"
    pid = child.pid

    del child
    gc.collect()

    assert not psutil.pid_exists(pid)


SCRIPT = (  # no main guard, as users write
    f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    "from fwlocal.children import Child\n"
    f"child = Child({AT_WORK!r})\n"
    "child.send(('sleep',))\n"
    "child.receive(30)\n"
    "print(child.pid, flush=True)\n"
)


def test_a_child_ends_with_its_parent() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True
    )

    assert not psutil.pid_exists(int(done.stdout))
    assert done.stderr == ""


def test_a_child_ends_when_its_parent_is_killed() -> None:
    script = SCRIPT + "import time; time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        orphan = psutil.Process(int(parent.stdout.readline()))
        parent.kill()

    gone, _ = psutil.wait_procs([orphan], timeout=10)
    assert gone


@posix
def test_a_child_whose_parent_has_no_stderr() -> None:
    script = "import os; os.close(2)\n" + SCRIPT.replace("sleep", "shout")
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, timeout=60, check=False
    )

    assert done.returncode == 0
