"""Which graph of which part: the flags that `export onnx` and `export build` share."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch

from fastvid_export.discovery import load_part
from fastvid_export.exportable import AxisRange, Exportable
from fastvid_export.graphs.content_transformer import content_transformer_exportable
from fastvid_export.graphs.decoder import decoder_exportable
from fastvid_export.graphs.encoder import encoder_exportable
from fastvid_export.graphs.kinds import is_content_transformer
from fastvid_export.graphs.transformer import matching_exportable, transformer_exportable
from fastvid_export.graphs.upsampler import upsampler_exportable


class GraphFlavour(StrEnum):
    """As in `fastvid_export.onnx`."""

    PORTABLE = "portable"
    FUSED = "fused"


class Graph(StrEnum):
    """What of a pipeline can be exported."""

    ENCODER = "encoder"
    DECODER = "decoder"
    TRANSFORMER = "transformer"
    UPSAMPLER = "upsampler"
    REFINER = "refiner"


class Precision(StrEnum):
    """What a graph computes in."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


DTYPES = {Precision.FP32: None, Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}
"""None: as models are loaded without being told."""

OF_BLOCKS = ("block_tables", "matching", "q_blocks", "kv_blocks")
BLOCKS_HELP = "Transformer and refiner: blocks of fewer {}, such as 0-3,8."


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFlags:
    """What the flags say of the graph; a flag that has no effect on the part is refused."""

    part: Graph
    precision: Precision
    reference: bool
    text_mask: bool
    block_tables: bool
    matching: bool
    q_blocks: str | None
    kv_blocks: str | None

    def __post_init__(self) -> None:
        transformers = (Graph.TRANSFORMER, Graph.REFINER)
        for name in ("reference", "text_mask", *OF_BLOCKS):
            legal = (Graph.DECODER,) if name == "reference" else transformers
            if getattr(self, name) not in (False, None) and self.part not in legal:
                raise ValueError(f"`{name}` has no effect on the {self.part.value}; leave it out")

    def load(self, folder: Path, device: torch.device | None = None) -> Any:
        """The model; None: on the CPU.

        Raises:
            ValueError, ImportError: see `load_part`.
        """
        return load_part(folder, self.part.value, dtype=DTYPES[self.precision], device=device)

    def exportable(self, loaded: Any) -> Exportable:
        """Its graph.

        Raises:
            ValueError: a flag that has no effect on this model, or blocks that it does not have.
        """
        if self.part is Graph.ENCODER:
            return encoder_exportable(loaded)
        if self.part is Graph.DECODER:
            return decoder_exportable(loaded, reference=self.reference)
        if self.part is Graph.UPSAMPLER:
            return upsampler_exportable(loaded)
        if is_content_transformer(loaded):
            for name in OF_BLOCKS:
                if getattr(self, name) not in (False, None):
                    raise ValueError(f"`{name}` has no effect on a transformer with a content frame; leave it out")
            return content_transformer_exportable(loaded, text_mask=self.text_mask)
        describe = matching_exportable if self.matching else transformer_exportable
        return describe(
            loaded,
            text_mask=self.text_mask,
            block_tables=self.block_tables,
            q_blocks=parse_blocks("q_blocks", self.q_blocks),
            kv_blocks=parse_blocks("kv_blocks", self.kv_blocks),
        )


def parse_blocks(name: str, text: str | None) -> tuple[int, ...]:
    """`0-3,8` is (0, 1, 2, 3, 8); None is none.

    Raises:
        ValueError: another form.
    """
    blocks: list[int] = []
    for item in [] if text is None else text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", item)
        if match is None:
            raise ValueError(f"`{name}` is {text!r}; expected numbers and ranges of blocks, such as 0-3,8")
        blocks += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(blocks)


def parse_axes(texts: list[str]) -> dict[str, AxisRange]:
    """`t=1:5:33` and the like.

    Raises:
        ValueError: another form, an axis twice, or a range that is none.
    """
    axes: dict[str, AxisRange] = {}
    for text in texts:
        match = re.fullmatch(r"(\w+)=(\d+):(\d+):(\d+)", text)
        if match is None:
            raise ValueError(f"`axis` is {text!r}; expected NAME=MINIMUM:EXAMPLE:MAXIMUM, such as t=1:5:33")
        if match[1] in axes:
            raise ValueError(f"`axis` gives {match[1]} twice")
        axes[match[1]] = AxisRange(minimum=int(match[2]), example=int(match[3]), maximum=int(match[4]))
    return axes


def with_axes(exportable: Exportable, axes: Mapping[str, AxisRange]) -> Exportable:
    """The same with some ranges replaced.

    Raises:
        ValueError: an axis that it does not have.
    """
    unknown = sorted(set(axes) - set(exportable.axes))
    if unknown:
        raise ValueError(f"`axis` names {unknown}; the {exportable.name} has {', '.join(exportable.axes)}")
    return replace(exportable, axes={**exportable.axes, **axes})
