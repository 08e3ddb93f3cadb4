#!/usr/bin/env bash
# What llama.cpp's own converter needs, beside the tools of llamacpp_tools.sh in DIR: an environment
# with torch and transformers. Usage: tests/upstream_converter.sh DIR; then DIR/python/bin/python
# DIR/source/vendor/llama.cpp/convert_hf_to_gguf.py
set -euo pipefail
dir=$(cd "$1" && pwd)
[ -e "$dir/python/.done" ] && exit 0
python3 -m venv "$dir/python"
"$dir/python/bin/python" -m pip install --disable-pip-version-check --quiet \
  torch transformers sentencepiece safetensors protobuf "$dir/source/vendor/llama.cpp/gguf-py"
touch "$dir/python/.done"
