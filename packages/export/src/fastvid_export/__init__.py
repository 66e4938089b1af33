"""ONNX export of video models with dynamic shapes, verified against eager."""

__all__: list[str] = []
