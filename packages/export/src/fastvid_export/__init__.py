"""fastvid-export: graphs and engines of video models with dynamic shapes, verified against eager, and served."""

from fastvid_export.activation_memory import ActivationMemory
from fastvid_export.backends.aotinductor import AOTInductor
from fastvid_export.backends.onnxruntime import OnnxRuntime
from fastvid_export.backends.tensorrt import TensorRT
from fastvid_export.backends.torch_tensorrt import TorchTensorRT
from fastvid_export.build import build_engine
from fastvid_export.errors import BuildError, EngineError, ExportError
from fastvid_export.exportable import AxisRange, Exportable, IndexSpec, InputSpec
from fastvid_export.graphs.chunks import decoder_chunk_exportable, encoder_chunk_exportable, reference_exportable
from fastvid_export.graphs.content_transformer import CONTENT_AXES, content_transformer_exportable
from fastvid_export.graphs.decoder import DECODER_AXES, decoder_exportable
from fastvid_export.graphs.encoder import encoder_exportable
from fastvid_export.graphs.transformer import TRANSFORMER_AXES, matching_exportable, transformer_exportable
from fastvid_export.graphs.upsampler import upsampler_exportable
from fastvid_export.load import LoadedEngine, load_engine
from fastvid_export.onnx import OPSETS, Flavour, export_onnx
from fastvid_export.profile import Profile
from fastvid_export.profile_plan import Geometry, profiles_of
from fastvid_export.record import EngineRecord
from fastvid_export.runtime import OnnxEngine, ReferenceEngine
from fastvid_export.serving.autoencoder import EngineAutoencoder
from fastvid_export.serving.engine_module import EngineModule, Fallback
from fastvid_export.serving.opening import EngineFolder
from fastvid_export.serving.transformer import EngineTransformer
from fastvid_export.serving.upsampler import EngineUpsampler
from fastvid_export.verify import ParityCase, ParityError, ParityReport, verify
from fastvid_export.volume import large_tensors, largest_that_fits
from fastvid_export.workload import Workload

__all__ = [
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
]
