import errno
import json
import struct
from dataclasses import replace

import huggingface_hub
import pytest
import torch
from fastvid_dit import CheckpointError, FSVideoDiT, checkpoint
from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(build, tmp_path):
    path = tmp_path / "model"
    build().save_pretrained(path)
    return path


def change_weights(folder, change):
    state = load_file(folder / WEIGHTS)
    change(state)
    save_file(state, folder / WEIGHTS)


def change_config(folder, **changes):
    values = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in values.items() if value != "drop"}))


def test_round_trip_is_exact(folder, build, inputs, tiny):
    loaded = FSVideoDiT.from_pretrained(folder)
    assert loaded.config == tiny
    assert torch.equal(loaded(**inputs()), build()(**inputs()))
    assert json.loads((folder / "config.json").read_text())["_class_name"] == "FSVideoDiT"
    assert {file.name for file in folder.parent.iterdir()} == {"model"}
    assert FSVideoDiT.from_pretrained(folder.parent, subfolder="model").config == tiny


def test_every_config_field_survives(build, tiny, tmp_path):
    config = replace(tiny, image_width=None, mask_channels=1, patch_size=(1, 2, 2), memory_norm="pre", norm_eps=1e-5)
    build(config).save_pretrained(tmp_path / "other")
    assert FSVideoDiT.from_pretrained(tmp_path / "other").config == config


def test_dtype_keeps_the_timestep_in_float32(folder):
    loaded = FSVideoDiT.from_pretrained(folder, dtype=torch.bfloat16)
    assert loaded.patch_embedding.weight.dtype == torch.bfloat16
    assert loaded.time_embedding.linear_in.weight.dtype == torch.float32
    assert loaded.blocks[0].modulation.table.dtype == torch.float32


def test_half_precision_files_load_as_float32(build, inputs, tmp_path):
    build().half().save_pretrained(tmp_path / "half")
    loaded = FSVideoDiT.from_pretrained(tmp_path / "half")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded(**inputs()), build()(**inputs()), atol=0.02, rtol=0.02)


def test_shards_are_read_and_stale_ones_removed(build, inputs, folder, monkeypatch):
    real = huggingface_hub.save_torch_model
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_torch_model", lambda model, path: real(model, path, max_shard_size="100KB"))
        build(seed=1).save_pretrained(folder)
    assert not (folder / WEIGHTS).exists()
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert torch.equal(FSVideoDiT.from_pretrained(folder)(**inputs()), build(seed=1)(**inputs()))
    build(seed=2).save_pretrained(folder)
    assert {file.name for file in folder.iterdir()} == {"config.json", WEIGHTS}
    assert torch.equal(FSVideoDiT.from_pretrained(folder)(**inputs()), build(seed=2)(**inputs()))


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/x.safetensors", "model.bin", "a\\b.safetensors"])
def test_an_index_cannot_point_elsewhere(folder, name):
    index = {"weight_map": {"head.linear.bias": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="names"):
        FSVideoDiT.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("head.linear.bias"), "missing tensors head.linear.bias, unexpected tensors none"),
        (lambda state: state.update(extra=torch.ones(1)), "missing tensors none, unexpected tensors extra"),
        (lambda state: state.update({"head.linear.bias": torch.ones(5)}), r"head.linear.bias \(5,\), expected \(4,\)"),
        (lambda state: state["head.linear.bias"].fill_(torch.nan), "NaN or infinite values head.linear.bias"),
        (lambda state: state["head.linear.bias"].fill_(torch.inf), "NaN or infinite values head.linear.bias"),
        (lambda state: state.update({"head.linear.bias": torch.ones(4, dtype=torch.int32)}), "not floating point"),
    ],
)
def test_tensors_that_do_not_fit(folder, change, message):
    change_weights(folder, change)
    with pytest.raises(CheckpointError, match=message):
        FSVideoDiT.from_pretrained(folder)


def header(entries, data=b""):
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04pickle",
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        header({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, b"1234"),
        header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**50]}}),
        header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}, b"1234"),
        header({"a": {"dtype": "EVAL", "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
    ],
)
def test_hostile_files(folder, content):
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match="truncated or no safetensors file"):
        FSVideoDiT.from_pretrained(folder)


@pytest.mark.parametrize("kept", [4, 100, -1])
def test_truncated_files(folder, kept):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="truncated or no safetensors file"):
        FSVideoDiT.from_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"new_key": 1}, "unknown keys new_key, missing keys none"),
        ({"width": "drop"}, "unknown keys none, missing keys width"),
        ({"width": "48"}, "`width` holds '48'"),
        ({"width": 48.0}, "`width` holds '48.0'"),
        ({"width": 50}, "`width` must be a multiple"),
        ({"rope_theta": 10**400}, "`rope_theta` holds '1000"),
        ({"layer_memory": 1}, "`layer_memory` holds '1'"),
        ({"patch_size": [1, 1]}, "`patch_size`"),
        ({"_class_name": "FSAE"}, "describes 'FSAE'"),
    ],
)
def test_config_that_does_not_fit(folder, changes, message):
    change_config(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        FSVideoDiT.from_pretrained(folder)


def test_another_variant_in_the_folder_is_no_matter(folder):
    (folder / "model.fp16.safetensors").write_bytes((folder / WEIGHTS).read_bytes())
    assert FSVideoDiT.from_pretrained(folder).config


def test_a_huge_config_allocates_nothing(folder):
    change_config(folder, width=2**20, num_heads=1, ffn_width=2**20, num_blocks=64)
    with pytest.raises(CheckpointError, match=r"misshapen|missing"):
        FSVideoDiT.from_pretrained(folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"width": 1, "width": 2}', "[" * 100_000])
def test_config_that_is_no_object(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        FSVideoDiT.from_pretrained(folder)


def test_missing_parts(folder, tmp_path):
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        FSVideoDiT.from_pretrained(folder)
    with pytest.raises(CheckpointError, match="no such folder"):
        FSVideoDiT.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        FSVideoDiT.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="local cache"):
        FSVideoDiT.from_pretrained("fastvid-no/such-model", local_files_only=True)


def test_a_full_disk_leaves_the_old_model(build, folder, inputs, monkeypatch):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def full(model, path):
        (path / WEIGHTS).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_torch_model", full)
    for target in (folder, folder.parent / "new"):
        with pytest.raises(OSError, match="No space left"):
            build(seed=1).save_pretrained(target)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert {file.name for file in folder.parent.iterdir()} == {"model"}


def test_a_model_with_nan_is_not_saved(build, tmp_path):
    model = build()
    with torch.no_grad():
        model.head.linear.bias[0] = torch.nan
    with pytest.raises(CheckpointError, match=r"head\.linear\.bias"):
        model.save_pretrained(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
