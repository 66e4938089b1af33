"""The verb `convert`: weights of other models as models of ours, and back."""

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from fastvid_pipelines import discovery, provenance
from fastvid_pipelines.checkpoint import CONFIG_NAME, WEIGHTS_NAME, new_folder, read_json, write_json
from fastvid_pipelines.commands.arguments import named_as_typed
from fastvid_pipelines.foreign_weights import read_weights, weight_files
from fastvid_pipelines.outputs import check_writable
from fastvid_pipelines.weights_source import RECORD_NAME, WeightsSource, find_source

logger = logging.getLogger(__name__)

OWN_STEM = WEIGHTS_NAME.removesuffix(".safetensors")
FLAGS = {
    "conversion": "--from` or `--to",
    "from_layout": "--from",
    "to_layout": "--to",
    "src": "SRC",
    "dst": "DST",
    "target": "--config",
    "seed": "--seed",
    "subfolder": "--subfolder",
    "source": "--source",
    "revision": "--revision",
    "licence": "--licence",
}
"""The flag behind each argument of a call."""


class Saved(Protocol):
    """A model that can be written in our layout."""

    def save_pretrained(self, directory: Path, /) -> None: ...


class Layout(Protocol):
    """A foreign layout, as the packages of our models offer them under `fastvid.conversion`."""

    @property
    def ours(self) -> str:
        """The name of our layout at the other end."""
        ...

    @property
    def file_stem(self) -> str:
        """What the files of weights are called, without their ending."""
        ...

    @property
    def nested(self) -> tuple[str, ...]:
        """Where a pickle may hold the tensors, the first that is there: keys, with dots between those of one way."""
        ...

    def load(self, state_dict: Mapping[str, Tensor], config: Mapping[str, Any] | None, /) -> Saved:
        """The same model in ours."""
        ...

    def start(
        self, state_dict: Mapping[str, Tensor], config: Mapping[str, Any] | None, target: str, seed: int, /
    ) -> Saved:
        """A larger model that begins with these weights."""
        ...

    def export(
        self, folder: Path, state_dict: Mapping[str, Tensor], /
    ) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
        """Tensors and config.json of a folder of ours in this layout."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the verb takes; `target` and `seed` are for a model that only begins with the weights."""

    src: str
    dst: Path
    from_layout: str
    to_layout: str
    target: str | None
    seed: int | None
    subfolder: str | None
    source: str | None
    revision: str | None
    licence: str | None


def convert(options: Options) -> dict[str, Any]:
    """Read, convert and write a folder, with a record of where the weights come from; all of it or nothing.

    Raises:
        ValueError: layouts that do not go together, an origin nobody has told, weights that do not fit, `dst` is there.
    """
    with named_as_typed(FLAGS):
        _check_destination(options.dst)
        layout, importing = _direction(options.from_layout, options.to_layout)
        _check_start(options, importing)
        stem = layout.file_stem if importing else OWN_STEM
        found = find_source(
            options.src,
            subfolder=options.subfolder,
            source=options.source,
            revision=options.revision,
            licence=options.licence,
            stem=stem,
        )
        files = weight_files(found.location, stem)
        config_file = found.folder / CONFIG_NAME
        if config_file.is_file():
            files = [*files, config_file]
        weights = read_weights([file for file in files if file != config_file], layout.nested if importing else ())
        logger.info("read: %d tensors", len(weights))
        with new_folder(options.dst) as folder:
            if importing:
                _import(layout, weights, read_json(config_file) if config_file.is_file() else None, options, folder)
            else:
                _export(layout, weights, found.folder, folder)
            record = _record(options, found, files)
            write_json(folder / RECORD_NAME, record)
    return {"output": str(options.dst), **record}


def _direction(from_layout: str, to_layout: str) -> tuple[Layout, bool]:
    """The foreign one of two layouts, and whether it is the one to read."""
    known = discovery.installed(discovery.CONVERSIONS)
    if from_layout in known and to_layout in known:
        raise ValueError(
            f"`from_layout` is {from_layout!r} and `to_layout` {to_layout!r}: convert to a layout of ours first, "
            "which checks what it reads, and from there on"
        )
    foreign, importing = (from_layout, True) if from_layout in known else (to_layout, False)
    layout: Layout = discovery.find(discovery.CONVERSIONS, foreign)
    if importing and to_layout != layout.ours:
        raise ValueError(f"`to_layout` is {to_layout!r}; {from_layout!r} becomes {layout.ours!r}")
    if not importing and from_layout != layout.ours:
        raise ValueError(f"`from_layout` is {from_layout!r}; {to_layout!r} is made of {layout.ours!r}")
    return layout, importing


def _check_destination(dst: Path) -> None:
    if os.path.lexists(dst):  # of a name that is too long, Path.exists raises
        raise ValueError(f"`dst` is {str(dst)!r}, which is there already; name a new folder")
    check_writable("dst", dst)


def _check_start(options: Options, importing: bool) -> None:
    if options.target is not None and not importing:
        raise ValueError(f"`target` is {options.target!r}, and only weights of others can begin a model of ours")
    if options.seed is not None and options.target is None:
        raise ValueError(f"`seed` is {options.seed}, and without `target` nothing is drawn at random")


def _import(
    layout: Layout, weights: dict[str, Tensor], config: dict[str, Any] | None, options: Options, folder: Path
) -> None:
    if options.target is None:
        model = layout.load(weights, config)
    else:
        model = layout.start(weights, config, options.target, options.seed or 0)
    model.save_pretrained(folder)


def _export(layout: Layout, weights: dict[str, Tensor], source: Path, folder: Path) -> None:
    from huggingface_hub import save_torch_state_dict

    state, config = layout.export(source, weights)
    whole = {name: _alone(tensor) for name, tensor in state.items()}
    save_torch_state_dict(whole, folder, filename_pattern=layout.file_stem + "{suffix}.safetensors")
    if config is not None:
        write_json(folder / CONFIG_NAME, config)


def _alone(tensor: Tensor) -> Tensor:
    """In memory of its own: of parts of one tensor, the writer would keep one only."""
    return tensor.contiguous() if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _record(options: Options, found: WeightsSource, files: list[Path]) -> dict[str, Any]:
    start = None if options.target is None else {"config": options.target, "seed": options.seed or 0}
    return {
        **asdict(found.origin),
        "from": options.from_layout,
        "to": options.to_layout,
        "files": {file.name: provenance.file_sha256(file) for file in files},
        "start": start,
        "made_from": found.record,
        "versions": provenance.versions(),
    }
