"""An accelerator of your own in twenty lines: in the later steps, queries see only every second key.

It shows where acceleration happens: nothing is patched, and no model knows of it. At this size it saves little; the
printed difference says what it costs.

    uv run python examples/03_write_an_accelerator.py examples/assets/meadow.jpg "the camera zooms in"
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from fastvid_accel.interfaces import AttentionSite, Step
from fastvid_pipelines import FSVideoPipeline
from torch import Tensor


@dataclass(frozen=True)
class EverySecondKey:
    exact_steps: int

    def start(self, *, num_steps: int) -> "Session":
        return Session(self.exact_steps)


class Session:
    def __init__(self, exact_steps: int) -> None:
        self.exact_steps, self.stride = exact_steps, 1

    def begin_step(self, step: Step) -> None:
        self.stride = 1 if step.index < self.exact_steps else 2

    def attention(self, q: Tensor, k: Tensor, v: Tensor, site: AttentionSite) -> Tensor:
        return F.scaled_dot_product_attention(q, k[:, :, :: self.stride], v[:, :, :: self.stride])

    def end_step(self, latents: Tensor, denoised: Tensor, positions: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        return latents, positions

    def finish(self, frames: Tensor) -> Tensor:
        return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("prompt")
    parser.add_argument("--model", help="folder or hub repository of another pipeline")
    parser.add_argument("--tiny", action="store_true", help="5 frames in 2 steps: only to see that it runs")
    options = parser.parse_args()

    pipe = FSVideoPipeline.from_pretrained(options.model) if options.model else FSVideoPipeline.default()
    frames = {}
    for name, accelerator in (("exact", None), ("every second key", EverySecondKey(exact_steps=1))):
        clip = pipe(
            image=options.photo,
            prompt=options.prompt,
            num_frames=5 if options.tiny else None,
            num_inference_steps=2 if options.tiny else None,
            generator=torch.Generator().manual_seed(0),
            accelerator=accelerator,
        )
        frames[name] = clip.frames.astype(np.float64)
        print(f"{name}: {clip.seconds['denoise']:.2f} s to denoise")
    error = np.square(frames["exact"] - frames["every second key"]).mean()
    print(f"PSNR between the two: {10 * np.log10(255**2 / max(error, 1e-9)):.1f} dB")


if __name__ == "__main__":
    main()
