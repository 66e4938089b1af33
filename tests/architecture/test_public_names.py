"""The public names of each package. A change here is a change of what users may rely on: say so in its CHANGELOG."""

import importlib

import pytest

from .workspace import MODULES

PUBLIC_NAMES: dict[str, list[str]] = {
    "fastvid_vae": [
        "FSAE",
        "FSAE_LITE",
        "FSAE_STANDARD",
        "LATENT_UPSAMPLER_2X",
        "ODVAE",
        "ODVAE_V1_0",
        "ODVAE_V1_1",
        "ODVAE_VARIANT_1",
        "ODVAE_VARIANT_2",
        "ODVAE_VARIANT_3",
        "ODVAE_VARIANT_4",
        "REDUCIO_FT2",
        "REDUCIO_FT4",
        "CheckpointError",
        "FSAEConfig",
        "LatentUpsampler",
        "LatentUpsamplerConfig",
        "ODVAEConfig",
        "ReducioConfig",
        "ReducioVAE",
        "psnr",
        "ssim",
    ],
    "fastvid_dit": [
        "FSVIDEO_14B",
        "REDUCIO_DIT_XL",
        "WAN21_I2V_14B",
        "AttentionOp",
        "AttentionSite",
        "CheckpointError",
        "ConditionCache",
        "ContentFrameConfig",
        "FSVideoDiT",
        "FSVideoDiTConfig",
        "ReducioDiT",
        "ReducioDiTConfig",
        "RefinerMask",
        "grid_positions",
        "sdpa",
    ],
    "fastvid_accel": [
        "VGDFR",
        "AsymRnR",
        "AsymRnRConfig",
        "Calibrator",
        "Composition",
        "NoAcceleration",
        "SimilarityTable",
        "VGDFRConfig",
        "compose",
    ],
    "fastvid_pipelines": [
        "OPEN_CLIP_VIT_H_14",
        "REDUCIO_SAMPLING",
        "ByteTextEncoder",
        "ByteTextEncoderConfig",
        "CLIPImageEncoder",
        "CheckpointError",
        "Clip",
        "DiffusersTextToImage",
        "FSVideoPipeline",
        "GenerationCancelled",
        "GenerationRequest",
        "LatentVideo",
        "MissingPackageError",
        "NonFiniteError",
        "OpenCLIPConfig",
        "OpenCLIPImageEncoder",
        "ReducioPipeline",
        "ReducioSampling",
        "Refinement",
        "Refiner",
        "SDContentEncoder",
        "Sampling",
        "Step",
        "T5TextEncoder",
        "T5TextEncoderConfig",
        "TensorClip",
        "TextFeatures",
        "read_video",
        "refine_video",
        "save_video",
    ],
    "fastvid_export": [
        "CONTENT_AXES",
        "DECODER_AXES",
        "OPSETS",
        "TRANSFORMER_AXES",
        "AOTInductor",
        "ActivationMemory",
        "AxisRange",
        "BuildError",
        "EngineAutoencoder",
        "EngineError",
        "EngineFolder",
        "EngineModule",
        "EngineRecord",
        "EngineTransformer",
        "EngineUpsampler",
        "ExportError",
        "Exportable",
        "Fallback",
        "Flavour",
        "Geometry",
        "IndexSpec",
        "InputSpec",
        "LoadedEngine",
        "OnnxEngine",
        "OnnxRuntime",
        "ParityCase",
        "ParityError",
        "ParityReport",
        "Profile",
        "ReferenceEngine",
        "TensorRT",
        "TorchTensorRT",
        "Workload",
        "build_engine",
        "content_transformer_exportable",
        "decoder_chunk_exportable",
        "decoder_exportable",
        "encoder_chunk_exportable",
        "encoder_exportable",
        "export_onnx",
        "large_tensors",
        "largest_that_fits",
        "load_engine",
        "matching_exportable",
        "profiles_of",
        "reference_exportable",
        "transformer_exportable",
        "upsampler_exportable",
        "verify",
    ],
}


def faults(expected: list[str], module: object) -> list[str]:
    """How a module's `__all__` differs from what was promised."""
    names = list(getattr(module, "__all__", []))
    found = [f"`{name}` is not promised" for name in names if name not in expected]
    found += [f"`{name}` is promised and missing" for name in expected if name not in names]
    found += [f"`{name}` is named but not there" for name in names if not hasattr(module, name)]
    if not found and names != expected:
        found.append(f"`__all__` is in another order, or repeats a name: {names}")
    return found


def test_every_package_has_its_names_here() -> None:
    assert sorted(PUBLIC_NAMES) == sorted(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_public_names(module: str) -> None:
    assert faults(PUBLIC_NAMES[module], importlib.import_module(module)) == []


@pytest.mark.parametrize(
    "names",
    [["a"], ["a", "b", "c"], ["b", "a"], ["a", "a", "b"], ["a", "missing"]],
)
def test_faults_are_seen(names: list[str]) -> None:
    module = type("module", (), {"__all__": names, "a": 1, "b": 2, "c": 3})
    assert faults(["a", "b"], module)


def test_the_promised_names_pass() -> None:
    assert faults(["a", "b"], type("module", (), {"__all__": ["a", "b"], "a": 1, "b": 2})) == []
