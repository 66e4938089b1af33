"""Against the pipelines of Wan and PixArt in diffusers, with tiny random models."""

import json
import logging
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import PixArtAlphaPipeline
from diffusers.pipelines.wan import pipeline_wan_i2v
from fastvid_pipelines.encoders.t5 import T5TextEncoder, T5TextEncoderConfig, clean
from fastvid_pipelines.errors import CheckpointError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

WORDS = ["<pad>", "</s>", "<unk>", "the", "camera", "pans", "left", "slowly"]
PROMPTS = ["the camera pans left", "slowly", "", "the  camera &amp;amp; pans\nleft slowly slowly slowly slowly"]
CONFIG = T5TextEncoderConfig(max_tokens=8)


def tokenizer() -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def model(kind: str) -> Any:
    torch.manual_seed(0)
    config_class, model_class = {"t5": (T5Config, T5EncoderModel), "umt5": (UMT5Config, UMT5EncoderModel)}[kind]
    config = config_class(vocab_size=len(WORDS), d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4)
    return model_class(config).eval()


@pytest.fixture
def encoder() -> T5TextEncoder:
    return T5TextEncoder(model("umt5"), tokenizer(), CONFIG)


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["t5", "umt5"])
def test_tokens_are_those_of_wans_pipeline(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_wan_i2v, "prompt_clean", clean)  # theirs needs ftfy
    theirs = object.__new__(pipeline_wan_i2v.WanImageToVideoPipeline)
    object.__setattr__(theirs, "tokenizer", tokenizer())
    object.__setattr__(theirs, "text_encoder", model(kind))
    expected = theirs._get_t5_prompt_embeds(
        PROMPTS, max_sequence_length=8, device=torch.device("cpu"), dtype=torch.float32
    )
    features = T5TextEncoder(model(kind), tokenizer(), CONFIG).encode(PROMPTS)
    assert features.mask is None
    torch.testing.assert_close(features.tokens, expected, atol=1e-6, rtol=1e-5)


@torch.inference_mode()
def test_tokens_and_mask_are_those_of_pixarts_pipeline() -> None:
    theirs = object.__new__(PixArtAlphaPipeline)
    object.__setattr__(theirs, "tokenizer", tokenizer())
    object.__setattr__(theirs, "text_encoder", model("t5"))
    object.__setattr__(theirs, "transformer", None)
    prompts = ["The Camera PANS left", "slowly", ""]
    expected, mask, _, _ = theirs.encode_prompt(
        prompts, do_classifier_free_guidance=False, device=torch.device("cpu"), max_sequence_length=8
    )
    config = T5TextEncoderConfig(max_tokens=8, reader="pixart")
    features = T5TextEncoder(model("t5"), tokenizer(), config).encode(prompts)
    assert features.mask is not None
    assert features.mask.dtype == torch.bool
    assert torch.equal(features.mask, mask.bool())
    assert features.mask.sum(1).tolist() == [5, 2, 1]
    torch.testing.assert_close(features.tokens[features.mask], expected[features.mask], atol=1e-6, rtol=1e-5)


def test_a_folder_from_before_there_was_a_reader_is_wans(encoder: T5TextEncoder, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path / "encoder")
    config = tmp_path / "encoder" / "config.json"
    assert json.loads(config.read_text())["reader"] == "wan"
    config.write_text('{"_class_name": "T5TextEncoder", "max_tokens": 8}')
    assert T5TextEncoder.from_pretrained(tmp_path / "encoder").config == CONFIG
    config.write_text('{"_class_name": "T5TextEncoder", "max_tokens": 8, "reader": "bert"}')
    with pytest.raises(CheckpointError, match="reader: Input should be 'wan' or 'pixart'"):
        T5TextEncoder.from_pretrained(tmp_path / "encoder")


@torch.inference_mode()
def test_behind_the_end_there_are_zeros(encoder: T5TextEncoder) -> None:
    tokens = encoder.encode(["slowly"]).tokens
    assert tokens.shape == (1, 8, 16)
    assert tokens[0, :2].abs().sum(-1).all()
    assert not tokens[0, 2:].any()


@torch.inference_mode()
def test_cutting_off_is_reported_with_the_number_of_tokens(
    encoder: T5TextEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="fastvid_pipelines"):
        encoder.encode(["the camera"])
        assert caplog.messages == []
        encoder.encode(["left " * 20])
    assert len(caplog.messages) == 1
    assert "has 21 tokens; the last 13 are cut off" in caplog.messages[0]


def test_cleaning() -> None:
    assert clean("  a &amp;lt; b\n\t c ") == "a < b c"


@torch.inference_mode()
def test_saved_and_read_back_it_is_the_same(encoder: T5TextEncoder, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path / "text_encoder")
    again = T5TextEncoder.from_pretrained(tmp_path, subfolder="text_encoder")
    assert torch.equal(again.encode(PROMPTS).tokens, encoder.encode(PROMPTS).tokens)
    assert T5TextEncoder.from_pretrained(tmp_path / "text_encoder", dtype=torch.bfloat16).model.dtype == torch.bfloat16


@torch.inference_mode()
def test_a_repository_of_wan_is_read(encoder: T5TextEncoder, tmp_path: Path) -> None:
    encoder.model.save_pretrained(tmp_path / "text_encoder")
    encoder.tokenizer.save_pretrained(tmp_path / "tokenizer")
    again = T5TextEncoder.from_transformers(tmp_path, CONFIG, local_files_only=True)
    assert torch.equal(again.encode(PROMPTS).tokens, encoder.encode(PROMPTS).tokens)


NORM = "encoder.final_layer_norm.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop(NORM), f"missing_keys: {NORM}"),
        (lambda state: state.update(more=torch.zeros(1)), "unexpected_keys: more"),
        (lambda state: state[NORM].fill_(float("nan")), f"NaN or infinity in {NORM}"),
        (lambda state: state.update({NORM: torch.zeros(3)}), f"mismatched_keys: .*{NORM}"),
    ],
    ids=["missing", "extra", "nan", "misshapen"],
)
def test_damaged_weights_are_refused(encoder: T5TextEncoder, tmp_path: Path, change: Any, message: str) -> None:
    encoder.save_pretrained(tmp_path / "encoder")
    file = tmp_path / "encoder" / "model" / "model.safetensors"
    state = load_file(file)
    change(state)
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=message):
        T5TextEncoder.from_pretrained(tmp_path / "encoder")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: struct.pack("<Q", 2**63) + b"{}",
        lambda content: b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.",
        lambda content: b"PK\x03\x04" + b"\x00" * 100,
    ],
    ids=["cut", "empty", "2^63", "pickle", "zip"],
)
def test_hostile_weights_are_refused_and_run_nothing(
    encoder: T5TextEncoder, tmp_path: Path, damage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    encoder.save_pretrained(tmp_path / "encoder")
    file = tmp_path / "encoder" / "model" / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError, match="`path_or_repo_id` is"):
        T5TextEncoder.from_pretrained(tmp_path / "encoder")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("file", "foreign"),
    [
        ("model/config.json", {"model_type": "foreign", "auto_map": {"AutoConfig": "foreign.Config"}}),
        (
            "tokenizer/tokenizer_config.json",
            {"tokenizer_class": "Foreign", "auto_map": {"AutoTokenizer": ["foreign.Foreign", None]}},
        ),
    ],
    ids=["model", "tokenizer"],
)
def test_code_in_a_folder_is_never_run_and_nobody_is_asked(
    encoder: T5TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, foreign: dict[str, Any]
) -> None:
    monkeypatch.setattr("builtins.input", lambda question: "y")
    encoder.save_pretrained(tmp_path / "encoder")
    config = tmp_path / "encoder" / file
    config.write_text(json.dumps(json.loads(config.read_text()) | foreign))
    ran = tmp_path / "ran"
    (tmp_path / "encoder" / "foreign.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    with pytest.raises(CheckpointError, match="`path_or_repo_id` is"):
        T5TextEncoder.from_pretrained(tmp_path / "encoder")
    assert not ran.exists()


def test_want_of_memory_is_no_damage(encoder: T5TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    encoder.save_pretrained(tmp_path / "encoder")
    monkeypatch.setattr(UMT5EncoderModel, "from_pretrained", fail)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        T5TextEncoder.from_pretrained(tmp_path / "encoder")


def test_without_a_dtype_the_weights_are_float32(encoder: T5TextEncoder, tmp_path: Path) -> None:
    encoder.model.to(torch.bfloat16)
    encoder.save_pretrained(tmp_path / "encoder")
    assert T5TextEncoder.from_pretrained(tmp_path / "encoder").model.dtype == torch.float32


def test_a_folder_without_a_tokenizer_is_refused(encoder: T5TextEncoder, tmp_path: Path) -> None:
    encoder.model.save_pretrained(tmp_path / "text_encoder")
    with pytest.raises(CheckpointError, match="`path_or_repo_id` is"):
        T5TextEncoder.from_transformers(tmp_path, CONFIG, local_files_only=True)


@pytest.mark.parametrize("max_tokens", [0, -1, 5000, 2.5])
def test_bad_configurations_are_refused(max_tokens: Any) -> None:
    with pytest.raises(ValueError, match="`max_tokens` is"):
        T5TextEncoderConfig(max_tokens=max_tokens)


def test_an_unknown_reader_is_refused() -> None:
    with pytest.raises(ValueError, match="`reader` is 'bert'; expected 'wan' or 'pixart'"):
        T5TextEncoderConfig(max_tokens=8, reader="bert")  # type: ignore[arg-type]
