"""A model's weights and its vocabulary."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fwlocal.errors import BadModelFile, DoesNotFit, FwlocalError
from fwlocal.llama.bindings import Asked, lib, log
from fwlocal.llama.devices import device_handles
from fwlocal.llama.huge_pages import NewMemory

# (mmap, mlock) -> llama_load_mode
_LOAD_MODES: Mapping[tuple[bool, bool], int] = {
    (False, False): 0,
    (True, False): 1,
    (False, True): 2,
    (True, True): 3,
}


@dataclass(frozen=True)
class LoadOptions:
    """How a model's weights are loaded: ``split`` names the GPUs and how many layers each holds,
    the last ones of the model and its output, in that order. Without ``mmap`` the weights are
    copied into memory of their own, in huge pages where Linux has them. ``dry`` reads only what the
    header says, for a context whose buffers are then as large as they would be."""

    split: Mapping[str, int] = field(default_factory=dict)
    mmap: bool = True
    mlock: bool = False
    vocab_only: bool = False
    dry: bool = False


class Model:
    """A loaded model and its vocabulary.

    ``on_progress`` gets the fraction loaded and stops the load by returning False. Raises
    BadModelFile with llama.cpp's last error line, or DoesNotFit when it ran out of memory. The
    caller has checked the file's header: llama.cpp may abort the process on some broken ones.
    """

    def __init__(
        self,
        path: Path,
        options: LoadOptions,
        on_progress: Callable[[float], bool] = lambda fraction: True,
    ) -> None:
        params = lib.llama_model_default_params()
        self._kept = _set_devices(params, options.split)
        # Any other load mode than 0 would end the process in a dry load.
        params.load_mode = 0 if options.dry else _LOAD_MODES[options.mmap, options.mlock]
        params.no_alloc = options.dry
        params.vocab_only = options.vocab_only
        asked = Asked(on_progress)
        new = NewMemory()

        def load_progress(fraction: float, _: Any) -> bool:
            new.ask_once()
            return asked(fraction, failed=False)

        progress = lib.llama_progress_callback(load_progress)
        params.progress_callback = progress
        log.clear()
        handle = lib.llama_model_load_from_file(_native_path(path), params)
        asked.raise_failure()
        if not handle:
            raise _load_error(path)
        self._open = weakref.finalize(self, lib.llama_model_free, handle)
        self._pointer = handle
        self.warnings, self.buffers = tuple(log.warnings), tuple(log.buffers)
        self._vocab = lib.llama_model_get_vocab(handle)
        self._pieces: dict[int, bytes] = {}
        self._eog: dict[int, bool] = {}
        self.n_ctx_train: int = lib.llama_model_n_ctx_train(self._pointer)
        self.n_vocab: int = lib.llama_vocab_n_tokens(self._vocab)
        self.bos: int = lib.llama_vocab_bos(self._vocab)
        self.eos: int = lib.llama_vocab_eos(self._vocab)
        # Recurrent parts keep a state, which cannot forget its end.
        self.keeps_state = bool(
            lib.llama_model_is_recurrent(handle) or lib.llama_model_is_hybrid(handle)
        )
        self.n_swa: int = lib.llama_model_n_swa(handle)
        self.adds_bos: bool = lib.llama_vocab_get_add_bos(self._vocab) and self.bos >= 0

    def close(self) -> None:
        """Free the weights; contexts must be closed before."""
        self._open()

    @property
    def handle(self) -> Any:
        """The ``llama_model *``; RuntimeError once closed."""
        if not self._open.alive:
            raise RuntimeError("the model is closed")
        return self._pointer

    @property
    def vocab(self) -> Any:
        """The ``llama_vocab *``; RuntimeError once closed."""
        return self._vocab if self.handle else None

    def is_eog(self, token: int) -> bool:
        """Whether ``token`` ends an answer (EOS, EOT and their like)."""
        if token not in self._eog:
            self._eog[token] = lib.llama_vocab_is_eog(self.vocab, token)
        return self._eog[token]

    def is_control(self, token: int) -> bool:
        """Whether ``token`` is a control token, which a user's text must never become."""
        return bool(lib.llama_vocab_is_control(self.vocab, token))

    def piece(self, token: int) -> bytes:
        """The bytes that ``token`` adds to the text; none for a control token."""
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._render_piece(token, special=False)
        return known

    def spelling(self, token: int) -> str:
        """``token`` as people write it, control tokens included."""
        return self._render_piece(token, special=True).decode("utf-8", "backslashreplace")

    def _render_piece(self, token: int, *, special: bool) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = lib.llama_token_to_piece(self.vocab, token, buffer, size, 0, special)
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """The ids of ``text`` alone, without BOS; ``special`` parses control tokens in it."""
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        ids = (ctypes.c_int32 * room)()
        count = lib.llama_tokenize(self.vocab, data, len(data), ids, room, False, special)
        if count < 0:
            raise FwlocalError(f"llama.cpp could not tokenize a text of {len(data)} bytes")
        return ids[:count]

    def metadata(self, key: str) -> str | None:
        """What the file says of ``key``, as text; ``{arch}`` in it is the architecture's name. None
        where it says nothing."""
        if "{arch}" in key:
            key = key.format(arch=self.metadata("general.architecture"))
        buffer = ctypes.create_string_buffer(256)
        length = lib.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if length >= 0 else None

    def attributes(self, token: int) -> int:
        """The ``llama_token_attr`` flags of ``token``."""
        return int(lib.llama_vocab_get_attr(self.vocab, token))


def _set_devices(params: Any, split: Mapping[str, int]) -> tuple[Any, Any]:
    """Have the layers put on exactly these devices; what must outlive the load."""
    handles = device_handles(list(split))
    devices = (ctypes.c_void_p * (len(handles) + 1))(*handles, None)
    # Whole numbers of layers: llama.cpp's float32 thresholds then hit the very layer.
    parts = (ctypes.c_float * lib.llama_max_devices())(*split.values())
    params.n_gpu_layers = sum(split.values())
    params.devices = ctypes.cast(devices, ctypes.c_void_p)
    if split:
        params.tensor_split = parts
    return devices, parts


def _native_path(path: Path) -> bytes:
    """A path as llama.cpp takes it: the file system's bytes, on Windows UTF-8."""
    return str(path).encode("utf-8") if os.name == "nt" else os.fsencode(path)


def _load_error(path: Path) -> FwlocalError:
    if (refusal := log.refusal()) is not None:
        return DoesNotFit(
            f"{path}: not enough memory to load it ({refusal}); take a smaller level, "
            "or fewer --n-gpu-layers"
        )
    return BadModelFile(f"{path}: llama.cpp cannot load it: {log.last_error()}")
