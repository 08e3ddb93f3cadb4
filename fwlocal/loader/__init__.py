"""From a model's name to an engine: locate, fetch, check, plan, load.

Everything that can be known to be wrong is found before native code sees the file.
"""

from fwlocal.library import Library
from fwlocal.loader.ahead import DraftFile, find_draft
from fwlocal.loader.here import Job, LoadedModel, default_sampling, load_planned, renderer
from fwlocal.loader.loading import load, open_model
from fwlocal.loader.opening import open_file
from fwlocal.loader.options import EngineOptions

__all__ = [
    "DraftFile",
    "EngineOptions",
    "Job",
    "Library",
    "LoadedModel",
    "default_sampling",
    "find_draft",
    "load",
    "load_planned",
    "open_file",
    "open_model",
    "renderer",
]
