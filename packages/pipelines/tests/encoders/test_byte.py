from pathlib import Path

import pytest
import torch
from fastvid_pipelines.encoders.byte import PAD, ByteTextEncoder, ByteTextEncoderConfig, tokenize
from fastvid_pipelines.errors import CheckpointError

CONFIG = ByteTextEncoderConfig(width=12, num_layers=2, num_heads=3, max_bytes=32)


@pytest.fixture
def encoder() -> ByteTextEncoder:
    torch.manual_seed(0)
    return ByteTextEncoder(CONFIG).eval()


def test_bytes_are_those_of_the_lower_cased_stripped_text() -> None:
    byte_ids, mask = tokenize(["  Zoom É\n", "a"], 32)
    expected = list("zoom é".encode())
    assert byte_ids[0].tolist() == expected
    assert byte_ids[1].tolist() == [ord("a")] + [PAD] * (len(expected) - 1)
    assert mask.sum(1).tolist() == [len(expected), 1]


def test_an_empty_prompt_is_one_padding_byte_that_counts() -> None:
    byte_ids, mask = tokenize(["", " \n"], 32)
    assert byte_ids.tolist() == [[PAD], [PAD]]
    assert mask.all()


@torch.inference_mode()
def test_padding_is_zero_and_changes_nothing_else(encoder: ByteTextEncoder) -> None:
    alone = encoder.encode(["pan left"])
    padded = encoder.encode(["pan left", "the camera tilts up slowly"])
    assert alone.mask is not None
    assert padded.mask is not None
    length = alone.tokens.shape[1]
    torch.testing.assert_close(padded.tokens[0, :length], alone.tokens[0])
    assert not padded.tokens[0, length:].any()
    assert padded.tokens[1].abs().sum(-1).all()


@torch.inference_mode()
def test_unmasked_padding_would_be_noticed(encoder: ByteTextEncoder) -> None:
    byte_ids, mask = tokenize(["pan left", "the camera tilts up slowly"], 32)
    alone = encoder.encode(["pan left"]).tokens[0]
    seen = encoder(byte_ids, torch.ones_like(mask))[0, : len(alone)]
    assert (seen - alone).abs().max() > 1e-4


@torch.inference_mode()
def test_order_of_the_words_matters(encoder: ByteTextEncoder) -> None:
    features = encoder.encode(["ab", "ba"]).tokens
    assert (features[0].flip(0) - features[1]).abs().max() > 1e-4


def test_too_long_and_empty_inputs_are_refused(encoder: ByteTextEncoder) -> None:
    encoder.encode(["x" * 32])
    with pytest.raises(ValueError, match=r"`prompt` 'x+'... has 33 bytes; this text encoder reads at most 32"):
        encoder.encode(["x" * 33])
    with pytest.raises(ValueError, match="`prompts` is empty"):
        encoder.encode([])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 13}, "multiple of `num_heads` 3.*12 and 15"),
        ({"num_layers": 0}, "`num_layers` is 0"),
        ({"max_bytes": -1}, "-1"),
    ],
)
def test_bad_configurations_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ByteTextEncoderConfig(**({"width": 12, "num_layers": 2, "num_heads": 3, "max_bytes": 32} | change))


@torch.inference_mode()
def test_saved_and_read_back_it_is_the_same(encoder: ByteTextEncoder, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path / "text_encoder")
    again = ByteTextEncoder.from_pretrained(tmp_path, subfolder="text_encoder")
    assert torch.equal(again.encode(["pan left"]).tokens, encoder.encode(["pan left"]).tokens)
    assert not again.training


def test_weights_take_the_wanted_dtype_and_float32_where_none_is_named(
    encoder: ByteTextEncoder, tmp_path: Path
) -> None:
    encoder.half().save_pretrained(tmp_path / "half")
    assert ByteTextEncoder.from_pretrained(tmp_path / "half").norm.weight.dtype == torch.float32
    assert ByteTextEncoder.from_pretrained(tmp_path / "half", dtype=torch.float16).norm.weight.dtype == torch.float16


def test_a_folder_of_something_else_is_refused(encoder: ByteTextEncoder, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path / "encoder")
    config = tmp_path / "encoder" / "config.json"
    config.write_text(config.read_text().replace("ByteTextEncoder", "FSAE"))
    with pytest.raises(CheckpointError, match="describes 'FSAE'; expected `_class_name` 'ByteTextEncoder'"):
        ByteTextEncoder.from_pretrained(tmp_path / "encoder")


def test_gradients_reach_every_weight(encoder: ByteTextEncoder) -> None:
    encoder.encode(["pan left", "up"]).tokens.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in encoder.parameters())
