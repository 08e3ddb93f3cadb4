# make chat   set up .venv and chat with the embedded default model
# make test   set up .venv and run all tests
# make check  format, lint, types, tests: what CI runs
# make compare  the engine beside llama.cpp's own tools (builds them once, 6 minutes on 2 cores)
# make compare-convert  the converter beside llama.cpp's (also installs torch for the latter)
# make compare-hub  downloads and streamed conversions against a Hub on loopback, cut and killed
# make compare-offload  layers on a GPU beside llama-fit-params, for the same files and memory
# make compare-chat  late turns beside early ones, what Markdown costs, many prompts at once
# make compare-bench  the benchmark beside llama-bench, llama-perplexity and llama-imatrix
# make compare-speed  decode, prefill, one-shots, drafts and the prefix cache beside going without
# make compare-gpu  a 70B-shaped model on an NVIDIA GPU: budgets, bytes, speeds, drafts
# make pictures  draw the README's pictures anew
#
# BACKEND=cpu|cuda|metal|vulkan|hip overrides what is found here.

PYTHON ?= python3
VENV := .venv
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
LLAMA_CPP_PYTHON := $(shell sed -n 's/.*"\(llama-cpp-python==[0-9.]*\)".*/\1/p' pyproject.toml)

# nvcc alone is not enough: llama.cpp also needs cuBLAS, which a partial toolkit lacks.
HAS_NVCC := $(shell command -v nvcc 2>/dev/null)
ifndef BACKEND
BACKEND := $(shell \
  if [ "$$(uname -sm)" = "Darwin arm64" ]; then echo metal; \
  elif [ -n "$(HAS_NVCC)" ] && printf '\043include <cublas_v2.h>\n' | nvcc -x cu -E -o /dev/null - 2>/dev/null; \
  then echo cuda; else echo cpu; fi)
endif
ifeq ($(filter $(BACKEND),cpu cuda metal vulkan hip),)
$(error BACKEND=$(BACKEND) is none of cpu, cuda, metal, vulkan, hip)
endif
CMAKE_ARGS_cpu :=
CMAKE_ARGS_cuda := -DGGML_CUDA=ON
CMAKE_ARGS_metal := -DGGML_METAL=ON
CMAKE_ARGS_vulkan := -DGGML_VULKAN=ON
CMAKE_ARGS_hip := -DGGML_HIP=ON
# LLAVA is image input, which fwlocal has no use for.
BUILD_ARGS := -DGGML_RPC=ON -DLLAVA_BUILD=OFF $(CMAKE_ARGS_$(BACKEND))
BUILT := $(VENV)/.$(LLAMA_CPP_PYTHON)-$(BACKEND)
INSTALLED := $(VENV)/.fwlocal

.PHONY: chat test lint check compare compare-convert compare-hub compare-offload compare-chat \
  compare-bench compare-speed compare-gpu pictures clean

chat: $(INSTALLED)
	@$(VENV)/bin/fwlocal chat

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest

lint: $(INSTALLED)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

check: lint test

compare: $(INSTALLED)
	tests/llamacpp_tools.sh .tools
	$(VENV)/bin/python -m tests.compare .tools/bin
	$(VENV)/bin/python -m tests.compare_oneshot .tools/bin

compare-convert: $(INSTALLED)
	tests/llamacpp_tools.sh .tools
	tests/upstream_converter.sh .tools
	$(VENV)/bin/python -m tests.compare_convert .tools/bin .tools/python/bin/python \
	  .tools/source/vendor/llama.cpp/convert_hf_to_gguf.py

compare-hub: $(INSTALLED)
	$(VENV)/bin/python -m tests.compare_hub

compare-offload: $(INSTALLED)
	tests/llamacpp_tools.sh .tools
	$(VENV)/bin/python -m tests.compare_offload .tools/bin

compare-chat: $(INSTALLED)
	$(VENV)/bin/python -m tests.compare_chat
	$(VENV)/bin/python -m tests.compare_rendering
	$(VENV)/bin/python -m tests.compare_batch

compare-bench: $(INSTALLED)
	tests/llamacpp_tools.sh .tools
	$(VENV)/bin/python -m tests.compare_quality .tools/bin
	$(VENV)/bin/python -m tests.compare_speed .tools/bin --rounds 21 --depths 0
	$(VENV)/bin/python -m tests.compare_imatrix .tools/bin

compare-speed: $(INSTALLED)
	tests/llamacpp_tools.sh .tools
	$(VENV)/bin/python -m tests.compare .tools/bin
	$(VENV)/bin/python -m tests.compare_oneshot .tools/bin
	$(VENV)/bin/python -m tests.compare_draft
	$(VENV)/bin/python -m tests.prefix_cache.storm --operations 10000

compare-gpu: $(INSTALLED)
	$(VENV)/bin/python -m tests.gpu.offload
	$(VENV)/bin/python -m tests.gpu.speed

pictures: $(INSTALLED)
	$(VENV)/bin/python -m tests.draw_pictures tests/pictures

clean:
	rm -rf $(VENV) .tools

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "fwlocal needs Python 3.10 or newer; try: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

# One stamp per version and backend: built again only when either changes. pip's own cache does not
# tell backends apart, hence a cache folder for each.
$(BUILT): | $(VENV)/bin/python
	@echo "Building $(LLAMA_CPP_PYTHON) for $(BACKEND) on $(CORES) cores: this takes minutes, once." >&2
	@echo "(about 5 on two cores; BACKEND=... overrides the choice)" >&2
	@[ "$(BACKEND)" != cpu ] || [ -z "$(HAS_NVCC)" ] || \
	  echo "nvcc is here, but cuBLAS is not: without it llama.cpp cannot be built for CUDA." >&2
	@cache=$$($(VENV)/bin/python -m pip cache dir)/fwlocal-$(BACKEND) && \
	CMAKE_ARGS="$(BUILD_ARGS)" CMAKE_BUILD_PARALLEL_LEVEL=$(CORES) $(VENV)/bin/python -m pip install \
	  --disable-pip-version-check --quiet --force-reinstall --no-deps --no-binary llama-cpp-python \
	  --cache-dir "$$cache" "$(LLAMA_CPP_PYTHON)" >&2
	@rm -f $(VENV)/.llama-cpp-python==*
	@touch "$@"

$(INSTALLED): pyproject.toml $(BUILT)
	@$(VENV)/bin/python -m pip install --disable-pip-version-check --quiet --editable '.[dev]' >&2
	@touch $@
