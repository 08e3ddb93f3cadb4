"""Who may import whom: each line below may use only the lines above it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LAYERS = (
    ("bash_completion", "errors", "levels", "shapes", "splits"),
    ("pieces", "interrupts", "progress", "terminal", "prompts", "gguf", "files", "sizes"),
    ("attachments", "clipboard", "fitting", "hardware", "locks", "markdown", "registry"),
    ("tuned", "workers"),
    ("answer", "chat_template", "config", "encoding", "inspection", "llama", "offload", "sampling"),
    ("audit", "children", "soundness", "tables", "whole"),
    ("forecast", "store"),
    ("hub", "kv_cache", "formats", "library", "model_hash"),
    ("chatting", "draft", "prefix_cache"),
    ("engine", "pull"),
    ("conversation", "loader"),
    ("ab", "parallel", "sessions"),
    ("catalogue", "completion", "doctor", "listing", "oneshot", "preview", "provenance", "repl"),
    ("bench", "options", "taken"),
    ("tune",),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
FACES = {"fwlocal", "fwlocal.cli"}  # what they hand out, they import inside functions
CONVERT_MAY_USE = {"__version__", "errors", "files", "gguf", "hub", "locks", "splits"}


def imports(path: Path) -> Iterator[str]:
    """The absolute names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield ast.literal_eval(node.args[0])


def room(module: str) -> str:
    """The module or folder of fwlocal that a dotted name lies in."""
    return module.split(".")[1]


def dotted(path: Path) -> str:
    """The module that a file is."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", files("fwlocal"), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    here = path.relative_to(ROOT / "fwlocal").parts[0].removesuffix(".py")
    if here == "__init__":
        return  # the package's face hands out load() from above, inside the function
    for name in imports(path):
        if name.startswith("fwlocal."):
            other = room(name)
            if other in LEVEL and other != here:
                assert LEVEL[other] < LEVEL[here], f"{here} imports {other}"
        package = name.split(".")[0]
        assert package != "llama_cpp" or here == "llama", f"{here} touches llama_cpp"
        assert package != "convert" or here == "cli", f"{here} imports convert"


@pytest.mark.parametrize("path", files("convert"), ids=lambda p: str(p.relative_to(ROOT)))
def test_convert_uses_little_of_fwlocal(path: Path) -> None:
    for name in imports(path):
        assert not name.startswith("fwlocal.") or room(name) in CONVERT_MAY_USE, name


@pytest.mark.parametrize("package", ["fwlocal", "convert"])
def test_modules_form_no_circle(package: str) -> None:
    modules = {dotted(path) for path in files(package)}
    wanted = {
        dotted(path): {
            module
            for name in imports(path)
            for module in (name, name.rpartition(".")[0])
            if module in modules - FACES
        }
        for path in files(package)
    }
    while free := [module for module, needed in wanted.items() if not needed & wanted.keys()]:
        for module in free:
            del wanted[module]
    assert not wanted, f"these import each other: {sorted(wanted)}"


def test_every_module_has_its_layer() -> None:
    modules = {p.stem if p.is_file() else p.name for p in (ROOT / "fwlocal").iterdir()}
    assert modules - {"__init__", "__pycache__", "models"} == set(LEVEL)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from fwlocal.cli import cli\n"
        "cli.main(['run', '--help'], standalone_mode=False)\n"
        "heavy = 'llama_cpp', 'numpy', 'rich', 'prompt_toolkit', 'huggingface_hub', 'psutil'\n"
        "heavy += 'filelock', 'platformdirs', 'pygments', 'matplotlib'\n"
        "loaded = [name for name in sys.modules if name.startswith(heavy)]\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


NOT_FOR_AN_ANSWER = (
    *("fwlocal.bench", "fwlocal.children", "fwlocal.cli.bench", "fwlocal.cli.chat"),
    *("fwlocal.cli.library", "fwlocal.cli.pull", "fwlocal.cli.tune", "fwlocal.cli.worker"),
    *("fwlocal.doctor", "fwlocal.forecast", "fwlocal.hub", "fwlocal.loader.isolation"),
    *("fwlocal.parallel", "fwlocal.pull", "fwlocal.repl", "fwlocal.sessions", "fwlocal.tune"),
    *("convert", "huggingface_hub", "jinja2", "matplotlib", "numpy", "prompt_toolkit", "pygments"),
    *("rich", "pickle", "multiprocessing", "asyncio"),
)


def test_an_answer_waits_for_no_module_that_it_does_not_need(tiny_gguf: Path, home: Path) -> None:
    command = ["run", "-m", str(tiny_gguf), "--prompt-format", "chatml", "--max-tokens", "2"]
    command += ["--threads", "1", "--no-cache", "hello"]
    code = (
        "import sys\n"
        "from fwlocal.cli import cli\n"
        f"cli.main({command!r}, standalone_mode=False)\n"
        f"unneeded = {NOT_FOR_AN_ANSWER!r}\n"
        "folders = tuple(f'{name}.' for name in unneeded)\n"
        "loaded = [n for n in sys.modules if n in unneeded or n.startswith(folders)]\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
