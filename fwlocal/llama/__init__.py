"""llama.cpp through llama-cpp-python's C bindings: the only folder here that touches llama_cpp.

Models, contexts and samplers as objects that free what they hold; its log kept off the terminal;
its failures as our errors. It decides nothing: which file, which context and which samplers come
from the caller. The bindings are a C ABI, so pyproject.toml pins the exact version.
"""

from fwlocal.llama.activations import Activations, ColumnSums
from fwlocal.llama.bindings import set_verbose
from fwlocal.llama.buffers import Buffer, buffer_names, refused_buffer
from fwlocal.llama.context import Context
from fwlocal.llama.devices import build_info, devices, exit_on_abort, supports_rpc, version
from fwlocal.llama.evaluation import Evaluation
from fwlocal.llama.helpers import json_schema_to_grammar, template_renderer
from fwlocal.llama.logprobs import logprobs
from fwlocal.llama.model import LoadOptions, Model
from fwlocal.llama.native_context import FLASH_ATTENTION, KV_TYPES, ContextOptions
from fwlocal.llama.sampler import Sampler
from fwlocal.llama.sequences import MOST_LANES, NextToken, Sequences

__all__ = [
    "FLASH_ATTENTION",
    "KV_TYPES",
    "Activations",
    "Buffer",
    "ColumnSums",
    "Context",
    "ContextOptions",
    "Evaluation",
    "LoadOptions",
    "MOST_LANES",
    "Model",
    "NextToken",
    "Sampler",
    "Sequences",
    "buffer_names",
    "build_info",
    "devices",
    "exit_on_abort",
    "json_schema_to_grammar",
    "logprobs",
    "refused_buffer",
    "set_verbose",
    "supports_rpc",
    "template_renderer",
    "version",
]
