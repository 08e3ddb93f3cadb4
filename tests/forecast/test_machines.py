"""``fwlocal plan`` for this machine with its workers, for another one, and for a Mac."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from fwlocal import options
from fwlocal.cli.plan import OWN_HELP, plan
from fwlocal.sizes import GIB
from tests.forecast.asking import ask_here, data_of
from tests.workers.loopback import LoopbackWorker

MODEL = "freewilly2:Q4_K_M"
SMALL = "stable-beluga-7b:Q4_K_M"
NO_GPU = ("--gpu-memory", "0", "--ram", "64G")


@pytest.fixture(autouse=True)
def settings(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store, and the folder of config.toml."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "config"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def worker() -> Iterator[LoopbackWorker]:
    """One that lends this machine's CPU."""
    with LoopbackWorker() as there:
        yield there


def test_the_speed_of_a_worker_is_not_guessed(worker: LoopbackWorker) -> None:
    asked = (SMALL, *NO_GPU, "--workers", worker.address, "--n-gpu-layers", "3")
    data = data_of(ask_here(*asked, "--json"))
    (level,) = data["levels"]
    assert level["shares"][0]["device"] == "RPC0"
    assert level["tokens_per_s"] is None
    assert data["machine"]["gpus"][0]["bandwidth_bytes_per_s"] is None
    text = ask_here(*asked).stdout
    assert "about" not in text.splitlines()[0]
    assert "the speed of a worker is not known; --gpu-bandwidth tells it\n" in text
    rows = ask_here("stable-beluga-7b", *asked[1:]).stdout.splitlines()
    assert next(row for row in rows if row.startswith("Q4_K_M")).split()[-1] == "-"


def test_a_worker_whose_speed_is_told(worker: LoopbackWorker) -> None:
    asked = (SMALL, *NO_GPU, "--workers", worker.address, "--gpu-bandwidth", "50")
    assert data_of(ask_here(*asked, "--json"))["levels"][0]["tokens_per_s"] > 1
    text = ask_here(*asked).stdout
    assert "50 GB/s (as given)" in text
    assert "what crosses the network to a worker is not counted\n" in text


def test_a_supposed_gpus_size_does_not_limit_the_workers(worker: LoopbackWorker) -> None:
    asked = (SMALL, "--ram", "64G", "--workers", worker.address, "--json")
    says = "--gpu-memory supposes this machine's GPUs; the workers count with all they offer"
    assert ask_here(*asked, "--gpu-memory", "2G").stderr == f"fwlocal: {says}\n"
    assert ask_here(*asked, "--gpu-memory", "0").stderr == ""


def test_config_tomls_workers_are_part_of_this_machine_alone(
    worker: LoopbackWorker, settings: Path
) -> None:
    (settings / "config.toml").write_text(f'workers = ["{worker.address}"]\n')

    def devices(*asked: str) -> set[str]:
        found = data_of(ask_here(SMALL, *asked, "--json"))["machine"]["gpus"]
        return {gpu["name"] for gpu in found}

    assert "RPC0" in devices()
    assert "RPC0" not in devices("--workers", "")
    for other in (("--gpu-memory", "24G"), ("--ram", "64G"), ("--unified", "64G")):
        assert "RPC0" not in devices(*other)
        assert "RPC0" in devices(*other, "--workers", worker.address)


def test_a_worker_of_config_toml_that_is_not_there(settings: Path) -> None:
    (settings / "config.toml").write_text('workers = ["127.0.0.1:9"]\n')
    done = ask_here(SMALL)
    assert done.returncode == 4
    assert "127.0.0.1:9" in done.stderr
    assert ask_here(SMALL, *NO_GPU).returncode == 0


def test_a_mac() -> None:
    data = data_of(ask_here(MODEL, "--unified", "64G", "--json"))
    machine, (level,) = data["machine"], data["levels"]
    (gpu,) = machine["gpus"]
    assert (gpu["name"], gpu["total_bytes"]) == ("MTL0", 48 * GIB)
    assert machine["ram"]["total_bytes"] == 64 * GIB
    assert level["fits_whole"]
    assert 2 < level["tokens_per_s"] < 4  # 273 GB/s
    text = ask_here(MODEL, "--unified", "64G").stdout
    assert (
        "MTL0: Apple Silicon, 48.0 GiB of the RAM, 273 GB/s (assumed: an M4 Pro, by Apple's data "
        "sheet)\n" in text
    )
    given = data_of(ask_here(MODEL, "--unified", "64G", "--gpu-bandwidth", "546", "--json"))
    assert given["levels"][0]["tokens_per_s"] == pytest.approx(2 * level["tokens_per_s"], rel=0.01)


def test_one_pool_is_counted_once() -> None:
    done = ask_here("freewilly2:Q8_0", "--unified", "48G", "--json")
    assert done.returncode == 5
    assert "48.0 GiB" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("other", [("--gpu-memory", "24G"), ("--ram", "64G")])
def test_a_mac_has_no_other_memory(other: tuple[str, str]) -> None:
    done = ask_here(MODEL, "--unified", "64G", *other)
    assert done.returncode == 2
    assert "leave --gpu-memory and --ram out" in done.stderr


def test_the_model_is_an_argument_or_an_option() -> None:
    first, second, both = (
        data_of(ask_here(*named, *NO_GPU, "--json"))
        for named in ((SMALL,), ("-m", SMALL), (SMALL, "-m", SMALL))
    )
    assert first == second == both
    environment = ask_here(SMALL, *NO_GPU, "--json", FWLOCAL_MODEL=MODEL)
    assert data_of(environment)["model"] == "stable-beluga-7b"
    assert data_of(ask_here(*NO_GPU, "--json", FWLOCAL_MODEL=SMALL)) == first
    done = ask_here(SMALL, "-m", MODEL)
    assert done.returncode == 2
    assert f"MODEL is '{SMALL}' and -m is '{MODEL}'; leave one of the two out" in done.stderr


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("--n-gpu-layers", "10"), "--n-gpu-layers has no effect: the machine has no GPU"),
        (("--gpu-bandwidth", "1,2"), "--gpu-bandwidth has no effect: the machine has no GPU"),
        (
            ("--n-gpu-layers", "1", "--gpu-bandwidth", "1"),
            "--n-gpu-layers and --gpu-bandwidth have no effect: the machine has no GPU",
        ),
        (("--n-gpu-layers", "0"), ""),
        ((), ""),
    ],
)
def test_options_for_gpus_without_a_gpu(asked: tuple[str, ...], says: str) -> None:
    done = ask_here(SMALL, *NO_GPU, *asked, "--json")
    data_of(done)
    assert done.stderr == (f"fwlocal: {says}\n" if says else "")
    if says:
        assert ask_here(SMALL, "--gpu-memory", "2x24G", "--ram", "64G", *asked).stderr == ""


def test_devices_are_in_the_order_of_their_names() -> None:
    asked = ("freewilly2:Q6_K", "--gpu-memory", "2x24G,12G", "--ram", "64G")
    names = ["GPU0", "GPU1", "GPU2"]
    data = data_of(ask_here(*asked, "--gpu-bandwidth", "1,2,3", "--json"))
    assert [gpu["name"] for gpu in data["machine"]["gpus"]] == names
    assert [gpu["bandwidth_bytes_per_s"] for gpu in data["machine"]["gpus"]] == [1e9, 2e9, 3e9]
    assert [share["device"] for share in data["levels"][0]["shares"]] == [*names, "CPU"]
    lines = ask_here(*asked).stdout.splitlines()
    assert [line.split()[0] for line in lines[2:6]] == [*names, "CPU"]
    assert [line.split(":")[0] for line in lines if ": " in line and "GB/s" in line] == [
        *names,
        "RAM",
    ]


def test_options_of_run_are_the_same_here() -> None:
    @click.command()
    @options.offload_options
    def run() -> None:
        """Run."""

    helps = {option.name: getattr(option, "help", "") for option in plan.params}
    for option in run.params:
        assert isinstance(option, click.Option)
        assert (option.help == helps[option.name]) == (option.name not in OWN_HELP)
    done = ask_here(SMALL, "--n-gpu-layers", "lots")
    assert done.returncode == 2
    assert "--n-gpu-layers 'lots': must be a number of layers, or auto" in done.stderr
