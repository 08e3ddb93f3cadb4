"""Llama's config.json: what becomes of it, and what is refused. Its tensors: test_llama_tensors.

The factors of Llama 3's RoPE are those that llama.cpp's convert_hf_to_gguf.py writes with torch.
"""

from __future__ import annotations

import hashlib
import math
import runpy
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from convert.job import Request, prepare
from convert.llama import map_tensors
from convert.llama_config import INTEGERS, LlamaConfig, key_values, read_config
from convert.model import ModelTensor
from convert.recipes import LEVELS
from convert.sources.checkpoint import locate
from convert.sources.tensors import SourceTensor
from tests.convert.checkpoints import SHAPE, config_of, write_checkpoint
from tests.convert.refused import refused
from tests.convert.tokenizers_made_here import write_json
from tests.tiny_llama import Shape, checkpoint

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def config_file(folder: Path, shape: Shape = SHAPE, **changes: Any) -> Path:
    """A config.json with ``changes``; None deletes."""
    content = {**config_of(shape, "F32"), **changes}
    content = {key: value for key, value in content.items() if value is not None}
    write_json(folder / "config.json", content)
    return folder / "config.json"


def test_hyper_parameters_become_keys(tmp_path: Path) -> None:
    shape = Shape(48, 96, 3, 6, 2, 4096, 1e-6, 500000.0, head_dim=16, vocab_size=1000)
    keys = key_values(read_config(config_file(tmp_path, shape)))
    found = {key: (value.value, value.type.name) for key, value in keys.items()}
    assert found == {
        "llama.block_count": (3, "UINT32"),
        "llama.context_length": (4096, "UINT32"),
        "llama.embedding_length": (48, "UINT32"),
        "llama.feed_forward_length": (96, "UINT32"),
        "llama.attention.head_count": (6, "UINT32"),
        "llama.attention.head_count_kv": (2, "UINT32"),
        "llama.attention.key_length": (16, "UINT32"),
        "llama.attention.value_length": (16, "UINT32"),
        "llama.attention.layer_norm_rms_epsilon": (1e-6, "FLOAT32"),
        "llama.rope.freq_base": (500000.0, "FLOAT32"),
        "llama.rope.dimension_count": (16, "UINT32"),
        "llama.vocab_size": (1000, "UINT32"),
    }


def test_what_transformers_assumes_when_a_key_is_missing(tmp_path: Path) -> None:
    keys = ("num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps")
    missing: dict[str, Any] = dict.fromkeys((*keys, "rope_theta", "attention_bias", "mlp_bias"))
    config = read_config(config_file(tmp_path, **missing))
    assert (config.num_key_value_heads, config.head_dim) == (4, 16)
    assert (config.max_position_embeddings, config.rms_norm_eps) == (2048, 1e-6)
    assert (config.rope_theta, config.rope_scaling) == (10000.0, {"rope_type": "default"})
    flags = (config.tie_word_embeddings, config.attention_bias, config.mlp_bias)
    assert flags == (False, False, False)


def test_a_byte_order_mark_is_forgiven(tmp_path: Path) -> None:
    path = config_file(tmp_path)
    config = read_config(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_config(path) == config


@pytest.mark.parametrize(
    "spelling",
    [
        {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4}},
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        {
            "rope_theta": None,
            "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5},
        },
    ],
)
def test_linear_scaling_and_theta(spelling: dict[str, Any], tmp_path: Path) -> None:
    keys = key_values(read_config(config_file(tmp_path, **spelling)))
    assert keys["llama.rope.freq_base"] == gguf.GGUFValue(5e5, gguf.GGUFValueType.FLOAT32)
    string, f32 = gguf.GGUFValueType.STRING, gguf.GGUFValueType.FLOAT32
    assert keys["llama.rope.scaling.type"] == gguf.GGUFValue("linear", string)
    assert keys["llama.rope.scaling.factor"] == gguf.GGUFValue(4.0, f32)


def rope_freqs(config: LlamaConfig, shape: Shape) -> list[ModelTensor]:
    """The tensor of factors, if there is one."""
    found = {
        name: SourceTensor(name, "F32", array.shape, Path("m"), 0)
        for name, array in checkpoint(shape).items()
    }
    tensors = map_tensors(config, found, Path("m"))
    return [tensor for tensor in tensors if tensor.name == "rope_freqs.weight"]


@pytest.mark.parametrize(
    ("dim", "theta", "factor", "original", "sha256"),
    [  # Llama 3.1; Llama 3.2's 1B and 3B; one whose numbers are not powers of two
        (128, 5e5, 8.0, 8192, "8b516af9cb5db26ed32831eb6f493dd620843d1cd69ca7bbad760c76061cd565"),
        (64, 5e5, 32.0, 8192, "d25a6d176d9313062b8f86440c88649f9e568d573ea66bfa4e85e2424cf35633"),
        (128, 5e5, 32.0, 8192, "af00a6286e9cba87733f6e5dd6b09a2bffd7326e6ac33d346f83f7c2f4857828"),
        (80, 1e4, 3.0, 300, "8642ec61d5b4c7bd82d6c12ebf4422fe6223420efbe65062848495f88013ee21"),
    ],
)
def test_llama_3s_rope_factors_are_torchs(
    dim: int, theta: float, factor: float, original: int, sha256: str, tmp_path: Path
) -> None:
    shape = Shape(head_dim=dim, rope_theta=theta, vocab_size=4)
    rope = {**LLAMA3, "factor": factor, "original_max_position_embeddings": original}
    (tensor,) = rope_freqs(read_config(config_file(tmp_path, shape, rope_scaling=rope)), shape)
    assert (tensor.shape, tensor.dtype) == ((dim // 2,), "F32")
    values = np.frombuffer(tensor.values or b"", "<f4")
    assert (values[0], values[-1]) == (1, factor)  # fast turns stay, slow ones are stretched
    assert (np.diff(values) >= 0).all()
    assert hashlib.sha256(values.tobytes()).hexdigest() == sha256


def test_no_factors_without_llama_3s_scaling(tmp_path: Path) -> None:
    assert rope_freqs(read_config(config_file(tmp_path)), SHAPE) == []


def test_odd_llama_3_parameters_make_no_noise(tmp_path: Path) -> None:
    rope = {**LLAMA3, "low_freq_factor": 4.0}  # no transition
    path = config_file(tmp_path, rope_scaling=rope, rope_theta=1e-29)
    assert len(rope_freqs(read_config(path), SHAPE)) == 1


ABSURD: tuple[Any, ...] = (0, -1, 2**40, "12", 1.5, True, math.nan, math.inf, [], {})


@pytest.mark.parametrize("value", ABSURD, ids=repr)
@pytest.mark.parametrize("key", INTEGERS)
def test_absurd_integers(key: str, value: Any, tmp_path: Path) -> None:
    path = config_file(tmp_path, **{key: value})
    refused(lambda: read_config(path), path, f"{key} is {value!r}", "must be a whole number,")


@pytest.mark.parametrize("value", [0, -1, 1e12, 10**400, "1", True, math.nan, math.inf, []])
@pytest.mark.parametrize("key", ["rms_norm_eps", "rope_theta"])
def test_absurd_numbers(key: str, value: Any, tmp_path: Path) -> None:
    path = config_file(tmp_path, **{key: value})
    refused(lambda: read_config(path), path, f"{key} is ", "it must be a positive number")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"hidden_size": None}, "hidden_size is None; it must be"),
        ({"vocab_size": None}, "vocab_size is None; it must be"),
        ({"num_key_value_heads": 3}, "num_attention_heads 4 is no multiple of num_key_value_heads"),
        ({"num_attention_heads": 6, "head_dim": None}, "hidden_size 64 is no multiple of"),
        ({"head_dim": 5}, "head_dim 5 is odd"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings is 'false'; it must be true or"),
        ({"attention_bias": 1}, "attention_bias is 1; it must be true or false"),
        ({"mlp_bias": []}, "mlp_bias is []; it must be true or false"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; only silu"),
        ({"architectures": ["Qwen2ForCausalLM"]}, "'Qwen2ForCausalLM' is not supported"),
        ({"architectures": ["MistralForCausalLM"]}, "LlamaForCausalLM, LLaMAForCausalLM"),
        ({"architectures": None}, "None is not supported"),
        ({"architectures": "LlamaForCausalLM"}, "None is not supported"),
        ({"architectures": [["LlamaForCausalLM"]]}, "is not supported"),
        ({"quantization_config": {"bits": 4}}, "already quantized (quantization_config); name"),
        ({"rope_scaling": "linear"}, "rope_scaling must be an object"),
        ({"rope_scaling": {"type": "yarn", "factor": 2}}, "rope scaling 'yarn' is not supported"),
        ({"rope_scaling": {"rope_type": ["llama3"]}}, "is not supported; default, linear, llama3"),
        ({"rope_scaling": {"type": "linear"}}, "factor is None; it must be a positive number"),
        ({"rope_scaling": {**LLAMA3, "high_freq_factor": "4"}}, "high_freq_factor is '4'"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": -1}}, "rope_theta is -1"),
    ],
)
def test_what_config_json_may_not_say(changes: dict[str, Any], what: str, tmp_path: Path) -> None:
    path = config_file(tmp_path, **changes)
    refused(lambda: read_config(path), path, what)


def test_a_config_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    refused(lambda: read_config(path), path, "copy it")
    path.write_text("[1]", "utf-8")
    refused(lambda: read_config(path), path, "is no JSON object", "fetch")
    path.write_text('{"hidden_size": 1,}', "utf-8")
    refused(lambda: read_config(path), path, "no valid JSON", "fetch")


def test_a_checkpoints_own_code_is_never_run(tmp_path: Path) -> None:
    auto_map = {"AutoConfig": "configuration_m.C", "AutoModelForCausalLM": "modeling_m.M"}
    folder = write_checkpoint(tmp_path / "m", config={"auto_map": auto_map})
    marker = tmp_path / "executed"
    for name in ("configuration_m.py", "modeling_m.py", "tokenization_m.py", "__init__.py"):
        (folder / name).write_text(f"open({str(marker)!r}, 'w').close()\n", "utf-8")
    request = Request(locate(str(folder)), (LEVELS["Q8_0"],), tmp_path / "out")
    prepare(request).close()
    assert not marker.exists()
    runpy.run_path(str(folder / "modeling_m.py"))
    assert marker.exists()  # as it would have done
