#!/usr/bin/env bash
# Build llama.cpp's own command-line tools from the very source that the pinned llama-cpp-python
# vendors, for side-by-side measurements. Usage: tests/llamacpp_tools.sh DIR; the tools: DIR/bin
set -euo pipefail
cd "$(dirname "$0")/.."
pin=$(sed -n 's/.*"\(llama-cpp-python==[0-9.]*\)".*/\1/p' pyproject.toml)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
[ -e "$dir/bin/llama-imatrix" ] && [ "$(cat "$dir/pin" 2>/dev/null)" = "$pin" ] && exit 0
rm -rf "$dir/source" "$dir/build"
.venv/bin/python -m pip download -q --no-deps --no-binary :all: -d "$dir" "$pin"
mkdir "$dir/source"
tar xzf "$dir"/llama_cpp_python-"${pin#*==}".tar.gz -C "$dir/source" --strip-components=1
cmake -S "$dir/source/vendor/llama.cpp" -B "$dir/build" -DCMAKE_BUILD_TYPE=Release \
  -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DGGML_RPC=ON
cmake --build "$dir/build" -j "$(getconf _NPROCESSORS_ONLN)" \
  --target llama-bench llama-completion llama-quantize llama-fit-params llama-perplexity \
  llama-imatrix
ln -sfn build/bin "$dir/bin"
echo "$pin" > "$dir/pin"
