"""Wan2.1's two layouts as `fastvid-cli convert` asks for them: whole checkpoints to an FSVideoDiT and back.

Layer memory enters as the identity (`init_router_as_identity`): all weight on the predecessor, to the last bit of
float32. So what is loaded is Wan, no more and no less, and as long as the routers stay so it can go back to Wan to the
bit. The price: such routers have no gradient. To train layer memory, `start` from Wan instead: its routers leak 1 %,
which changes the outputs a little and leaves them a gradient.

Source: github.com/Wan-Video/Wan2.1 (Apache-2.0) and diffusers. Its published weights have not been run through this
yet.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastvid_dit.checkpoint import build_empty, read_config
from fastvid_dit.config import FSVIDEO_14B, FSVideoDiTConfig
from fastvid_dit.conversion import wan_diffusers, wan_official
from fastvid_dit.conversion.target import read_target
from fastvid_dit.conversion.wan_config import read_diffusers, read_official, write_diffusers, write_official
from fastvid_dit.fsvideo_dit import FSVideoDiT
from fastvid_dit.layer_memory import init_router_as_identity

StateDict = dict[str, Tensor]
Foreign = Mapping[str, Tensor]

NAMED = {"FSVIDEO_14B": FSVIDEO_14B}
LEAK = 0.01
ROUTER = ".memory_router."


@dataclass(frozen=True, slots=True, kw_only=True)
class WanLayout:
    """One way in which the tensors and the configuration of a Wan2.1 transformer are named.

    Attributes:
        file_stem: what the files of weights are called, without their ending.
        nested: where pickles of this layout may keep the tensors, if they are not the pickled object itself.
        ours: the name of our layout.
    """

    to_diffusers: Callable[[Foreign], StateDict]
    from_diffusers: Callable[[Foreign], StateDict]
    read: Callable[[Mapping[str, Any] | None], FSVideoDiTConfig]
    write: Callable[[FSVideoDiTConfig], dict[str, Any]]
    file_stem: str = "diffusion_pytorch_model"
    nested: tuple[str, ...] = ()
    ours: str = "fsvideo-dit"

    def load(self, state_dict: Foreign, config: Mapping[str, Any] | None, /) -> FSVideoDiT:
        """Wan with layer memory as the identity; the weights keep their data types.

        Raises:
            ValueError: tensors or configuration are not those of a Wan2.1 image-to-video transformer.
        """
        wan = self.read(config)
        weights = wan_diffusers.convert(self.to_diffusers(state_dict), wan)
        model = build_empty(FSVideoDiT, replace(wan, layer_memory=True))
        routers = _identity_routers(model.state_dict(), weights["patch_embedding.weight"].dtype)
        model.load_state_dict(weights | routers, assign=True)
        return model

    def start(self, state_dict: Foreign, config: Mapping[str, Any] | None, target: str, seed: int, /) -> FSVideoDiT:
        """A new model that begins with Wan's body, for training; see `start_from_wan`.

        Args:
            state_dict: the tensors.
            config: the config.json beside them.
            target: name of a constant, or a folder with the config.json of an FSVideoDiT.
            seed: of the weights that Wan does not have.
        Raises:
            ValueError: as `load`; or the target is none, or does not hold the weights.
        """
        wan, wanted = self.read(config), read_target(target, NAMED, FSVideoDiTConfig, FSVideoDiT.__name__)
        theirs = self.to_diffusers(state_dict)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = FSVideoDiT(wanted)
        wan_diffusers.start_from_wan(model, theirs, wan, leak=LEAK)
        return model

    def export(self, folder: Path, state_dict: Foreign, /) -> tuple[StateDict, dict[str, Any] | None]:
        """Tensors and config.json in this layout; the exact inverse of `load`.

        Raises:
            ValueError: a router is not the identity, or the model has parts that Wan has not.
        """
        config = read_config(folder, FSVideoDiTConfig, FSVideoDiT.__name__)
        written = self.write(config)
        if config.layer_memory:
            state_dict = _without_routers(state_dict, build_empty(FSVideoDiT, config).state_dict())
        plain = replace(config, layer_memory=False)
        return self.from_diffusers(wan_diffusers.invert(state_dict, plain)), written


def _identity_routers(shapes: Foreign, dtype: torch.dtype) -> StateDict:
    routers: StateDict = {}
    for name, tensor in shapes.items():
        if name.endswith(f"{ROUTER}weight"):
            router = nn.Linear(tensor.shape[1], tensor.shape[0], device="meta", dtype=dtype).to_empty(device="cpu")
            init_router_as_identity(router)
            module = name.removesuffix("weight")
            routers |= {f"{module}{part}": value.detach() for part, value in router.named_parameters()}
    return routers


def _without_routers(state_dict: Foreign, shapes: Foreign) -> StateDict:
    """What is left when routers that do nothing are taken away."""
    expected = _identity_routers(shapes, torch.float32)
    missing = sorted(expected.keys() - state_dict.keys())
    if missing:
        raise ValueError(f"`state_dict`: missing tensors {missing[:10]}")
    learned = [name for name, tensor in expected.items() if not torch.equal(state_dict[name].float(), tensor)]
    if learned:
        raise ValueError(
            f"layer memory is no longer the identity in {learned[:10]}, of {len(learned)} tensors; Wan has none, "
            "and without it this model would be another one"
        )
    return {name: tensor for name, tensor in state_dict.items() if name not in expected}


def _unchanged(state_dict: Foreign) -> StateDict:
    return dict(state_dict)


WAN_DIFFUSERS = WanLayout(
    to_diffusers=_unchanged, from_diffusers=_unchanged, read=read_diffusers, write=write_diffusers
)

WAN_OFFICIAL = WanLayout(
    to_diffusers=wan_official.to_diffusers,
    from_diffusers=wan_official.from_diffusers,
    read=read_official,
    write=write_official,
)
