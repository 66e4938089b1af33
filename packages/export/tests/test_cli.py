import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from fastvid_export import AxisRange, EngineError, Exportable, decoder_exportable, discovery
from fastvid_export.cli import export
from fastvid_export.commands.parts import parse_axes, parse_blocks, with_axes
from typer.testing import CliRunner, Result

from .fakes import BakingDecoder, FakeContentTransformer, FakeDecoder, FakeTransformer


class StoredDecoder(FakeDecoder):
    @classmethod
    def from_pretrained(
        cls, folder: Path, *, dtype: torch.dtype | None, device: torch.device | None, local_files_only: bool
    ) -> "FakeDecoder":
        assert local_files_only
        return cls().to(device=device, dtype=dtype or torch.float32)


class StoredTransformer(FakeTransformer):
    @classmethod
    def from_pretrained(cls, folder: Path, **settings: object) -> "FakeTransformer":
        return cls(image=False, num_blocks=2)


class StoredContentTransformer(FakeContentTransformer):
    @classmethod
    def from_pretrained(cls, folder: Path, **settings: object) -> "FakeContentTransformer":
        return cls()


CLASSES: dict[str, dict[str, Any]] = {
    "fastvid.autoencoder": {"StoredDecoder": StoredDecoder, "Baking": BakingDecoder},
    "fastvid.transformer": {
        "StoredTransformer": StoredTransformer,
        "StoredContentTransformer": StoredContentTransformer,
    },
}


class FakeEntryPoint:
    module = "some.package"

    def __init__(self, name: str, group: str) -> None:
        self.name, self.group = name, group

    def load(self) -> Any:
        return CLASSES[self.group][self.name]


@pytest.fixture(autouse=True)
def _offered(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(*, group: str) -> list[FakeEntryPoint]:
        return [FakeEntryPoint(name, group) for name in CLASSES[group]]

    monkeypatch.setattr(discovery, "entry_points", entry_points)


def model_folder(parent: Path, class_name: str = "StoredDecoder") -> Path:
    parent.mkdir(exist_ok=True)
    (parent / "config.json").write_text(json.dumps({"_class_name": class_name}))
    return parent


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(export, [str(argument) for argument in arguments])


def test_a_model_folder_becomes_a_file_and_a_report(tmp_path: Path) -> None:
    folder, output = model_folder(tmp_path / "model"), tmp_path / "decoder.onnx"
    axes = ["--axis", "b=1:2:4", "--axis", "h=1:2:8", "--axis", "w=1:3:8"]
    result = run("onnx", folder, "--part", "decoder", "--output", output, "--json", *axes)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["passed"] is True
    assert report == json.loads((tmp_path / "decoder.json").read_text())
    assert max(case["sizes"]["h"] for case in report["cases"]) <= 8


def test_a_pipeline_folder_names_its_parts_itself(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    model_folder(tmp_path / "transformer", "StoredTransformer")
    result = run("onnx", tmp_path, "--part", "transformer", "--output", tmp_path / "t.onnx", "--text-mask")
    assert result.exit_code == 0, result.output
    assert "transformer, " in result.stdout
    assert "comparisons passed" in result.stdout
    assert (tmp_path / "t.onnx").is_file()


def test_flags_that_a_transformer_with_a_content_frame_has_no_use_for(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", "StoredContentTransformer")
    result = run("onnx", folder, "--part", "transformer", "--output", tmp_path / "t.onnx", "--q-blocks", "0")
    assert isinstance(result.exception, ValueError)
    assert "`q_blocks` has no effect on a transformer with a content frame" in str(result.exception)


def test_a_transformer_that_is_shown_a_content_frame_gets_the_graph_of_its_kind(tmp_path: Path) -> None:
    folder, output = model_folder(tmp_path / "model", "StoredContentTransformer"), tmp_path / "t.onnx"
    result = run("onnx", folder, "--part", "transformer", "--output", output, "--axis", "y=1:2:4")
    assert result.exit_code == 0, result.output
    assert "transformer with content frame, " in result.stdout


def test_flavour_and_precision(tmp_path: Path) -> None:
    folder, output = model_folder(tmp_path / "model"), tmp_path / "decoder.onnx"
    flags = ["--precision", "bf16", "--flavour", "fused", "--axis", "h=1:2:4", "--axis", "w=1:3:4", "--axis", "b=1:2:2"]
    result = run("onnx", folder, "--part", "decoder", "--output", output, *flags)
    assert result.exit_code == 0, result.output
    model = onnx.load(output)
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16
    assert next(entry.version for entry in model.opset_import if not entry.domain) == 23


def test_fewer_tokens_and_what_they_match_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Exportable] = []

    def stop(exportable: Exportable, *arguments: object, **settings: object) -> None:
        seen.append(exportable)
        raise EngineError("seen")

    monkeypatch.setattr("fastvid_export.commands.onnx.export_onnx", stop)
    folder = model_folder(tmp_path / "model", "StoredTransformer")
    where = ("onnx", folder, "--part", "refiner", "--output", tmp_path / "t.onnx", "--kv-blocks", "0-1")
    assert run(*where, "--q-blocks", "1").exit_code == 1
    assert run(*where, "--matching", "--block-tables").exit_code == 1
    assert {"keep_kv_0", "keep_kv_1", "keep_q_1", "restore_1"} < set(seen[0].inputs)
    assert seen[1].outputs == ("velocity", "value_0", "value_1")
    assert seen[1].inputs["cos"].shape[0] == 2


def test_blocks() -> None:
    assert parse_blocks("q_blocks", "0-3,8") == (0, 1, 2, 3, 8)
    assert parse_blocks("q_blocks", None) == ()
    with pytest.raises(ValueError, match="`q_blocks` is '1-'; expected numbers and ranges of blocks, such as 0-3,8"):
        parse_blocks("q_blocks", "1-")


@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_a_graph_that_is_wrong_is_exit_code_1_and_no_file(tmp_path: Path, json_flag: list[str]) -> None:
    folder, output = model_folder(tmp_path / "model", "Baking"), tmp_path / "decoder.onnx"
    result = run("onnx", folder, "--part", "decoder", "--output", output, *json_flag)
    assert result.exit_code == 1
    assert "comparisons with eager failed" in result.stderr
    assert "t=1" in result.stderr
    assert not output.exists()
    if json_flag:
        assert json.loads(result.stdout)["exit_code"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--part", "decoder", "--text-mask"], "`text_mask` has no effect on the decoder"),
        (["--part", "encoder", "--reference"], "`reference` has no effect on the encoder"),
        (["--part", "decoder", "--q-blocks", "1"], "`q_blocks` has no effect on the decoder"),
        (["--part", "upsampler", "--kv-blocks", "0"], "`kv_blocks` has no effect on the upsampler"),
        (["--part", "decoder", "--matching"], "`matching` has no effect on the decoder"),
        (["--part", "decoder", "--block-tables"], "`block_tables` has no effect on the decoder"),
        (["--part", "transformer", "--reference"], "`reference` has no effect on the transformer"),
        (["--part", "transformer"], r"`model` is a 'StoredDecoder', which is not a transformer that is installed"),
        (["--part", "decoder", "--axis", "t=5"], "`axis` is 't=5'; expected NAME=MINIMUM:EXAMPLE:MAXIMUM"),
        (["--part", "decoder", "--axis", "q=1:2:3"], r"`axis` names \['q'\]; the decoder has b, t, h, w"),
    ],
)
def test_mistakes_are_value_errors(tmp_path: Path, arguments: list[str], message: str) -> None:
    folder = model_folder(tmp_path / "model")
    result = run("onnx", folder, "--output", tmp_path / "decoder.onnx", *arguments)
    assert isinstance(result.exception, ValueError)
    with pytest.raises(ValueError, match=message):
        raise result.exception


def test_folders_that_hold_no_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`model` must be the folder of a model"):
        discovery.load_part(tmp_path, "decoder")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="`model` is damaged"):
        discovery.load_part(tmp_path, "decoder")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="`model` is damaged"):
        discovery.load_part(tmp_path, "decoder")


def test_only_offered_classes_are_ever_loaded(tmp_path: Path) -> None:
    model_folder(tmp_path, "os:system")
    with pytest.raises(ValueError, match="'os:system', which is not a decoder that is installed"):
        discovery.load_part(tmp_path, "decoder")


def test_a_name_that_fastvid_took_stays_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = (EntryPoint("FSAE", f"{module}:FSAE", "fastvid.autoencoder") for module in ("fastvid_vae", "other"))
    for entries in ([own, other], [other, own]):
        monkeypatch.setattr(discovery, "entry_points", lambda *, group, entries=entries: entries)
        assert discovery.installed("decoder") == {"FSAE": own}


def test_without_any_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "entry_points", lambda *, group: [])
    with pytest.raises(ImportError, match="pip install fastvid-dit"):
        discovery.load_part(model_folder(tmp_path), "transformer")


def test_axes() -> None:
    assert parse_axes(["t=1:5:33"]) == {"t": AxisRange(minimum=1, example=5, maximum=33)}
    with pytest.raises(ValueError, match="`axis` gives t twice"):
        parse_axes(["t=1:5:33", "t=1:5:33"])
    with pytest.raises(ValueError, match="`example` must lie between"):
        parse_axes(["t=6:5:33"])
    exportable = decoder_exportable(FakeDecoder().eval(), reference=False)
    narrowed = with_axes(exportable, parse_axes(["t=2:5:33"]))
    assert (narrowed.axes["t"].minimum, narrowed.axes["h"]) == (2, exportable.axes["h"])


def test_the_entry_point_leads_to_the_verb() -> None:
    entry = EntryPoint(name="export", value="fastvid_export.cli:export", group="fastvid.command")
    assert entry.load() is export
