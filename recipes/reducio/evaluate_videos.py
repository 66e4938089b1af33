"""Make validation videos with the small Reducio, whole: a sentence and the middle frame -> 16 frames of 128 x 128.

PSNR is to the exact warp of the photo, over all frames, for each of the nine plain sentences. Beside it stand the
content frame held still, and the true latents decoded: the least that the transformer should reach, and the most.
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from fastvid_dit import ReducioDiT
from fastvid_pipelines.content_frame_to_video import ReducioPipeline
from fastvid_pipelines.encoders.byte import ByteTextEncoder
from fastvid_pipelines.reducio_types import ReducioSampling
from fastvid_vae import ReducioVAE, psnr
from picture_autoencoder import LATENT_CHANNELS, PICTURE_STRIDE, PictureAutoencoder
from reducio_clips import FRAME_SIDE, MOTIONS, NUM_FRAMES, TIMES, Photos, overlap
from safetensors.torch import load_file
from torch import Tensor

SAMPLING = ReducioSampling(
    num_frames=NUM_FRAMES, height=FRAME_SIDE, width=FRAME_SIDE, fps=16.0, num_inference_steps=20, guidance_scale=2.5
)
WAYS = ("generated", "true latents", "content frame")


@dataclass(frozen=True)
class Semantic:
    """The features of the small autoencoder of pictures, in the place of OpenCLIP's tokens."""

    pictures: PictureAutoencoder

    def encode(self, image: Tensor, /) -> Tensor:
        tokens, _ = self.pictures.encode(image)
        return tokens


@dataclass(frozen=True)
class Content:
    """Its latents, in the place of those of Stable Diffusion's autoencoder; nothing about them is random."""

    pictures: PictureAutoencoder
    stride: int = PICTURE_STRIDE
    latent_channels: int = LATENT_CHANNELS

    def encode(self, image: Tensor, /, *, generator: torch.Generator) -> Tensor:
        _, latents = self.pictures.encode(image)
        return latents


def pipeline(run: Path) -> ReducioPipeline:
    """Of the parts that the two trainings left in a folder."""
    pictures = PictureAutoencoder()
    pictures.load_state_dict(load_file(run / "picture.safetensors"))
    pictures.eval().requires_grad_(False)
    return ReducioPipeline(
        autoencoder=ReducioVAE.from_pretrained(run / "vae"),
        transformer=ReducioDiT.from_pretrained(run / "transformer"),
        text_encoder=ByteTextEncoder.from_pretrained(run / "text_encoder"),
        image_encoder=Semantic(pictures),
        content_encoder=Content(pictures),
        sampling=SAMPLING,
    )


@torch.inference_mode()
def score(pipe: ReducioPipeline, photos: Photos, num_photos: int, tile: int | None) -> dict[str, dict[str, float]]:
    """PSNR in dB by sentence and way, mean over photos; none where the truth is the content frame itself."""
    model = pipe.autoencoder
    assert isinstance(model, ReducioVAE)
    scores: dict[str, dict[str, float]] = {}
    for prompt, motion in MOTIONS.items():
        sums = dict.fromkeys(WAYS, 0.0)
        for index in range(num_photos):
            truth = photos.centred(index, motion, TIMES, FRAME_SIDE)[0][None]
            content = model.content_frames(truth)
            generator = torch.Generator().manual_seed(index)
            with model.tiled(spatial=tile, overlap=overlap(tile)):
                made = pipe(image=content[0, :, 0], prompt=prompt, generator=generator, output_type="pt").frames
                decoded = model.decode(model.encode(truth), reference=content)
            for way, frames in zip(WAYS, (made, decoded, content.expand_as(truth)), strict=True):
                sums[way] += float(psnr(frames.clamp(-1, 1), truth))
        scores[prompt] = {way: total / num_photos for way, total in sums.items() if math.isfinite(total)}
    return scores


def table(scores: dict[str, dict[str, float]]) -> str:
    """One line a sentence."""
    lines = [f"{'PSNR in dB':36s}" + "".join(f"{way:>16s}" for way in WAYS)]
    lines += [
        f"{prompt:36s}" + "".join(f"{row[way]:16.2f}" if way in row else f"{'equal':>16s}" for way in WAYS)
        for prompt, row in scores.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with photos/ and clips/")
    parser.add_argument("run", type=Path, help="output folder of the two trainings")
    parser.add_argument("--photos", type=int, default=8, help="how many validation photos")
    parser.add_argument("--tile", type=int, help="as in the training of the transformer; else whole")
    parser.add_argument("--output", type=Path, help="also write the scores as JSON here")
    options = parser.parse_args()

    if options.photos < 1:
        parser.error(f"--photos is {options.photos}; it must be at least 1")
    photos = Photos(options.data, "validation")
    num_photos = min(options.photos, len(photos.names))
    scores = score(pipeline(options.run), photos, num_photos, options.tile)
    print(table(scores))
    if options.output:
        options.output.write_text(json.dumps({"photos": num_photos, "scores": scores}, indent=1) + "\n")


if __name__ == "__main__":
    main()
