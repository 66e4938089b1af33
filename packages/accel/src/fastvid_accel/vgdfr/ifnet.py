"""IFNet, the network of RIFE: frames between two others, from flow that it estimates at the time in between.

Source: Huang et al., RIFE (arXiv 2011.06294), in the form of Practical-RIFE's releases 4.25 and 4.26, with which VGDFR
interpolates. Modules carry the released names; of the weights nothing comes with this package, see
`fastvid_accel.conversion.rife`.
"""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

CONFIG_NAME, WEIGHTS_NAME = "config.json", "model.safetensors"
HEAD_WIDTH = 16
HINT_CHANNELS = 8
"""That a level hands to the next one beside flow and mask."""
RES_CONVS = 8
CELL = 4
"""Pixels a side that the convolutions of a level halve away; a picture is padded to so many of the coarsest level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IFNetConfig:
    """Architecture of an IFNet. Levels run from coarse to fine.

    Attributes:
        feature_channels: of the picture features that levels see, warped, beside the pictures.
        widths: channels of each level, even.
        scales: by how much each level sees the pictures smaller.
    """

    feature_channels: int
    widths: tuple[int, ...]
    scales: tuple[int, ...]

    def __post_init__(self) -> None:
        if type(self.feature_channels) is not int or self.feature_channels < 1:
            raise ValueError(f"`feature_channels` is {self.feature_channels!r}; expected at least 1")
        if not self.widths or any(type(width) is not int or width < 2 or width % 2 for width in self.widths):
            raise ValueError(f"`widths` is {self.widths!r}; expected even numbers, one a level")
        if len(self.scales) != len(self.widths) or any(type(scale) is not int or scale < 1 for scale in self.scales):
            raise ValueError(
                f"`scales` is {self.scales!r}; expected {len(self.widths)} numbers, one a level, at least 1"
            )

    @property
    def multiple(self) -> int:
        """Pixels a side; pictures are padded to multiples."""
        return CELL * max(self.scales)


RIFE_4_25 = IFNetConfig(feature_channels=4, widths=(192, 128, 96, 64, 32), scales=(16, 8, 4, 2, 1))
"""Releases 4.25 and 4.26, which differ in weights alone."""
RIFE_4_25_LITE = IFNetConfig(feature_channels=4, widths=(192, 128, 96, 64, 24), scales=(32, 16, 8, 4, 1))
RIFE_4_25_HEAVY = IFNetConfig(feature_channels=4, widths=(384, 256, 192, 128, 64), scales=(16, 8, 4, 2, 1))
RIFE_4_26_HEAVY = IFNetConfig(feature_channels=16, widths=(192, 128, 96, 64, 32), scales=(16, 8, 4, 2, 1))
"""Also called 4.26 large; what VGDFR's authors use."""


class IFNet(nn.Module):
    """An `Interpolator`. It moves to the device of the frames that it is given, and computes in its own data type."""

    def __init__(self, config: IFNetConfig) -> None:
        super().__init__()
        self.config = config
        pictures = 2 * (3 + config.feature_channels) + 1  # and the time
        later = pictures + 1 + HINT_CHANNELS + 4  # mask, hints and flow
        for level, width in enumerate(config.widths):
            self.add_module(f"block{level}", FlowBlock(later if level else pictures, width))
        self.encode = Head(config.feature_channels)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write config.json and model.safetensors into a folder.

        Raises:
            ImportError: safetensors is not installed; the extra `ifnet` brings it.
        """
        save_file = _safetensors().torch.save_file
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: part.contiguous() for name, part in self.state_dict().items()}, folder / WEIGHTS_NAME)
        text = json.dumps({"_class_name": type(self).__name__, **asdict(self.config)}, indent=2)
        (folder / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], *, dtype: torch.dtype = torch.float32) -> Self:
        """Read a folder that `fastvid-cli convert --from rife --to ifnet` wrote, onto the CPU.

        Args:
            dtype: of the weights in memory, and what the network computes in.
        Raises:
            ValueError: no such folder, one of another model, or weights that do not fit it.
            ImportError: safetensors is not installed; the extra `ifnet` brings it.
        """
        safetensors = _safetensors()
        config = read_config(Path(folder))
        with torch.device("meta"):
            model = cls(config)
        try:
            model.load_state_dict(safetensors.torch.load_file(Path(folder) / WEIGHTS_NAME), assign=True)
        except (safetensors.SafetensorError, OSError, RuntimeError) as error:
            raise ValueError(f"{Path(folder) / WEIGHTS_NAME} does not fit {CONFIG_NAME}: {error}") from error
        return model.to(dtype).requires_grad_(False).eval()

    def forward(
        self, first: Float[Tensor, "n 3 H W"], last: Float[Tensor, "n 3 H W"], times: tuple[float, ...], /
    ) -> Float[Tensor, "n times 3 H W"]:
        """n pairs of frames in [-1, 1], of any size -> what lies between each at `times` in (0, 1)."""
        if not all(0 < time < 1 for time in times):
            raise ValueError(f"`times` is {times}; expected numbers between 0 and 1")
        self.to(first.device)
        height, width = first.shape[-2:]
        one, other = (self._padded(frames) for frames in (first, last))
        features = self.encode(one), self.encode(other)
        between = torch.stack([self._at(one, other, features, time) for time in times], dim=1)
        return (2 * between[..., :height, :width] - 1).to(first.dtype)

    def _padded(self, frames: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n 3 H2 W2"]:
        """In [0, 1], with black below and on the right up to whole cells, as the released programs have it."""
        multiple = self.config.multiple
        pictures = (frames.to(self.encode.cnn0.weight.dtype) + 1) / 2
        return F.pad(pictures, (0, -frames.shape[-1] % multiple, 0, -frames.shape[-2] % multiple))

    def _at(self, one: Tensor, other: Tensor, features: tuple[Tensor, Tensor], time: float) -> Float[Tensor, "n 3 H W"]:
        """Each level refines the flow from the time in between to both frames, and the mask that blends them."""
        clock = one.new_full((len(one), 1, *one.shape[-2:]), time)
        flow, mask, hints = self.get_submodule("block0")(
            torch.cat((one, other, *features, clock), 1), None, self.config.scales[0]
        )
        for level in range(1, len(self.config.scales)):
            ways = flow[:, :2], flow[:, 2:]
            seen = [_warped(x, way) for pair in ((one, other), features) for x, way in zip(pair, ways, strict=True)]
            change, mask, hints = self.get_submodule(f"block{level}")(
                torch.cat((*seen, clock, mask, hints), 1), flow, self.config.scales[level]
            )
            flow = flow + change
        share = mask.sigmoid()
        blended: Tensor = share * _warped(one, flow[:, :2]) + (1 - share) * _warped(other, flow[:, 2:])
        return blended


class Head(nn.Module):
    """Features of a picture, as large as it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cnn0 = nn.Conv2d(3, HEAD_WIDTH, 3, stride=2, padding=1)
        self.cnn1 = nn.Conv2d(HEAD_WIDTH, HEAD_WIDTH, 3, padding=1)
        self.cnn2 = nn.Conv2d(HEAD_WIDTH, HEAD_WIDTH, 3, padding=1)
        self.cnn3 = nn.ConvTranspose2d(HEAD_WIDTH, channels, 4, stride=2, padding=1)

    def forward(self, picture: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n c H W"]:
        x = picture
        for conv in (self.cnn0, self.cnn1, self.cnn2):
            x = _active(conv(x))
        out: Tensor = self.cnn3(x)
        return out


class FlowBlock(nn.Module):
    """One level: what it sees, made smaller, to a change of the flow, a mask and hints for the next level."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv0 = nn.Sequential(_halving(in_channels, width // 2), _halving(width // 2, width))
        self.convblock = nn.Sequential(*(ResConv(width) for _ in range(RES_CONVS)))
        out = 4 + 1 + HINT_CHANNELS
        self.lastconv = nn.Sequential(nn.ConvTranspose2d(width, 4 * out, 4, stride=2, padding=1), nn.PixelShuffle(2))

    def forward(self, seen: Tensor, flow: Tensor | None, scale: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures and what belongs to them, and the flow so far in pixels; all of full size, as is what comes out."""
        x = _resized(seen, 1 / scale)
        if flow is not None:
            x = torch.cat((x, (_resized(flow, 1 / scale) / scale).to(x.dtype)), 1)
        out = _resized(self.lastconv(self.convblock(self.conv0(x))), scale)
        return out[:, :4].float() * scale, out[:, 4:5], out[:, 5:]  # fractions of a pixel, far away as well


class ResConv(nn.Module):
    """A convolution, weighted by channel, beside what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.beta = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return _active(self.conv(x) * self.beta + x)


def read_config(folder: Path) -> IFNetConfig:
    """The configuration of a folder of ours.

    Raises:
        ValueError: no config.json, or one of another model.
    """
    file = folder / CONFIG_NAME
    if not file.is_file():
        raise ValueError(f"{folder} holds no {CONFIG_NAME}; expected what `fastvid-cli convert --to ifnet` wrote")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}") from error
    names = {field.name for field in fields(IFNetConfig)}
    if not isinstance(values, dict) or values.pop("_class_name", None) != IFNet.__name__ or values.keys() != names:
        raise ValueError(f"{file} describes no IFNet; expected `_class_name` 'IFNet' and {sorted(names)}")
    for name in ("widths", "scales"):
        if not isinstance(values[name], list):
            raise ValueError(f"{file}: `{name}` is {values[name]!r}; expected a list of numbers")
        values[name] = tuple(values[name])
    return IFNetConfig(**values)


def _safetensors() -> ModuleType:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError("safetensors is needed; install it with: pip install 'fastvid-accel[ifnet]'") from error
    return safetensors


def _active(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


def _halving(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1), nn.LeakyReLU(0.2))


def _resized(x: Tensor, factor: float) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def _warped(pictures: Float[Tensor, "n c H W"], flow: Float[Tensor, "n 2 H W"]) -> Float[Tensor, "n c H W"]:
    """The picture's values at p + flow(p), its border going on outside; in float32, as the flow is."""
    height, width = pictures.shape[-2:]
    rows = torch.arange(height, dtype=torch.float32, device=flow.device).view(-1, 1)
    columns = torch.arange(width, dtype=torch.float32, device=flow.device).view(1, -1)
    x = 2 * (columns + flow[:, 0]) / (width - 1) - 1
    y = 2 * (rows + flow[:, 1]) / (height - 1) - 1
    places = torch.stack((x, y), dim=-1)
    moved = F.grid_sample(pictures.float(), places, mode="bilinear", padding_mode="border", align_corners=True)
    return moved.to(pictures.dtype)
