"""Practical-RIFE's `flownet.pkl` as an `IFNet`, and back.

The modules of an `IFNet` carry the released names, so what is left are wrappings: a leading `module.`, and the networks
of training (`teacher`, `caltime`) that some files hold. A file does not say its release; the shapes of its tensors do,
as far as the architecture goes.

Source: github.com/hzwer/Practical-RIFE, releases 4.25 and 4.26 with their variants. Their published weights have not
been run through this yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastvid_accel.vgdfr.ifnet import (
    RIFE_4_25,
    RIFE_4_25_HEAVY,
    RIFE_4_25_LITE,
    RIFE_4_26_HEAVY,
    IFNet,
    IFNetConfig,
    read_config,
)

RELEASES = {
    "4.25 or 4.26": RIFE_4_25,
    "4.25.lite": RIFE_4_25_LITE,
    "4.25.heavy": RIFE_4_25_HEAVY,
    "4.26.heavy": RIFE_4_26_HEAVY,
}
PARALLEL = "module."
OF_TRAINING = ("teacher.", "caltime.")
NAMES_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RIFELayout:
    """The layout of a released file.

    Attributes:
        file_stem: what the file is called, without its ending.
        nested: a pickle holds the tensors bare.
        ours: the name of our layout.
    """

    file_stem: str = "flownet"
    nested: tuple[str, ...] = ()
    ours: str = "ifnet"

    def load(self, state_dict: Mapping[str, Tensor], config: Mapping[str, Any] | None, /) -> IFNet:
        """The same network; the weights keep their data types.

        Raises:
            ValueError: a config.json, which no release has, or tensors that fit none.
        """
        if config is not None:
            raise ValueError("`config` is there, and no release of RIFE has a config.json: name the file of weights")
        named = {name.removeprefix(PARALLEL): tensor for name, tensor in state_dict.items()}
        found = {name: tensor for name, tensor in named.items() if not name.startswith(OF_TRAINING)}
        model = _empty(_release(found))
        model.load_state_dict(found, assign=True)
        return model

    def start(
        self, state_dict: Mapping[str, Tensor], config: Mapping[str, Any] | None, target: str, seed: int, /
    ) -> IFNet:
        """Refused: there is no larger network to begin with these weights.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"`target` is {target!r}; no other network begins with a RIFE: leave it out")

    def export(self, folder: Path, state_dict: Mapping[str, Tensor], /) -> tuple[dict[str, Tensor], None]:
        """Tensors in this layout, with `module.` as released; it has no config.json.

        Raises:
            ValueError: tensors that `load` would not read back as they are.
        """
        config = read_config(folder)
        if config not in RELEASES.values():
            raise ValueError(f"`folder` {str(folder)!r} holds an IFNet of no release; nothing of RIFE's would read it")
        _check_fit(state_dict, _shapes(config))
        return {PARALLEL + name: tensor for name, tensor in state_dict.items()}, None


RIFE = RIFELayout()


def _release(tensors: Mapping[str, Tensor]) -> IFNetConfig:
    """The architecture whose levels are as wide as these, all other tensors fitting."""
    for config in RELEASES.values():
        shapes = _shapes(config)
        telling = [f"block{level}.conv0.1.0.bias" for level in range(len(config.widths))] + ["encode.cnn3.bias"]
        if all(name in tensors and tensors[name].shape == shapes[name] for name in telling):
            _check_fit(tensors, shapes)
            return config
    raise ValueError(f"`state_dict` is of no release of RIFE that is known here: {', '.join(RELEASES)}")


def _empty(config: IFNetConfig) -> IFNet:
    with torch.device("meta"):
        return IFNet(config)


def _shapes(config: IFNetConfig) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in _empty(config).state_dict().items()}


def _check_fit(tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> None:
    missing, left = sorted(shapes.keys() - tensors.keys()), sorted(tensors.keys() - shapes.keys())
    wrong = [
        f"{name} {tuple(tensors[name].shape)}, expected {tuple(shape)}"
        for name, shape in shapes.items()
        if name in tensors and tensors[name].shape != shape
    ]
    if missing or left or wrong:
        raise ValueError(
            f"`state_dict` does not fit an IFNet: missing {missing[:NAMES_SHOWN]}, left over {left[:NAMES_SHOWN]},"
            f" misshapen {wrong[:NAMES_SHOWN]}"
        )
