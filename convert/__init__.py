"""From a Hugging Face checkpoint to quantized GGUFs in one pass.

This package may use fwlocal's ``errors``, ``gguf`` and ``hub`` and nothing else of it, so that a
conversion needs no runtime.
"""
