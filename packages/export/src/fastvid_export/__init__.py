"""fastvid-export: ONNX export of video models with dynamic shapes, verified against eager."""

from fastvid_export.errors import EngineError, ExportError
from fastvid_export.exportable import AxisRange, Exportable, IndexSpec, InputSpec
from fastvid_export.graphs.chunks import decoder_chunk_exportable, encoder_chunk_exportable, reference_exportable
from fastvid_export.graphs.content_transformer import CONTENT_AXES, content_transformer_exportable
from fastvid_export.graphs.decoder import DECODER_AXES, decoder_exportable
from fastvid_export.graphs.encoder import encoder_exportable
from fastvid_export.graphs.transformer import TRANSFORMER_AXES, matching_exportable, transformer_exportable
from fastvid_export.graphs.upsampler import upsampler_exportable
from fastvid_export.onnx import OPSETS, Flavour, export_onnx
from fastvid_export.runtime import OnnxEngine, ReferenceEngine
from fastvid_export.verify import ParityCase, ParityError, ParityReport, verify

__all__ = [
    "CONTENT_AXES",
    "DECODER_AXES",
    "OPSETS",
    "TRANSFORMER_AXES",
    "AxisRange",
    "EngineError",
    "ExportError",
    "Exportable",
    "Flavour",
    "IndexSpec",
    "InputSpec",
    "OnnxEngine",
    "ParityCase",
    "ParityError",
    "ParityReport",
    "ReferenceEngine",
    "content_transformer_exportable",
    "decoder_chunk_exportable",
    "decoder_exportable",
    "encoder_chunk_exportable",
    "encoder_exportable",
    "export_onnx",
    "matching_exportable",
    "reference_exportable",
    "transformer_exportable",
    "upsampler_exportable",
    "verify",
]
