"""fastvid-export: ONNX export of video models with dynamic shapes, verified against eager."""

from fastvid_export.errors import EngineError, ExportError
from fastvid_export.exportable import AxisRange, Exportable, InputSpec
from fastvid_export.onnx import OPSETS, export_onnx
from fastvid_export.runtime import OnnxEngine
from fastvid_export.verify import ParityCase, ParityError, ParityReport, verify
from fastvid_export.wrappers import (
    CONTENT_AXES,
    DECODER_AXES,
    TRANSFORMER_AXES,
    content_transformer_exportable,
    decoder_exportable,
    transformer_exportable,
    upsampler_exportable,
)

__all__ = [
    "CONTENT_AXES",
    "DECODER_AXES",
    "OPSETS",
    "TRANSFORMER_AXES",
    "AxisRange",
    "EngineError",
    "ExportError",
    "Exportable",
    "InputSpec",
    "OnnxEngine",
    "ParityCase",
    "ParityError",
    "ParityReport",
    "content_transformer_exportable",
    "decoder_exportable",
    "export_onnx",
    "transformer_exportable",
    "upsampler_exportable",
    "verify",
]
