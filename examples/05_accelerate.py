"""AsymRnR: measure a model in one video, save a share of its operations, and see what that costs.

uv run python examples/05_accelerate.py examples/assets/meadow.jpg "the camera pans left"
"""

import argparse

import numpy as np
import torch
from fastvid_accel import AsymRnR, AsymRnRConfig, Calibrator
from fastvid_pipelines import FSVideoPipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo")
    parser.add_argument("prompt")
    parser.add_argument("--saving", type=float, default=0.05, help="share of the transformer's operations")
    parser.add_argument("--model", help="folder or hub repository of another pipeline")
    parser.add_argument("--tiny", action="store_true", help="13 frames in 2 steps: only to see that it runs")
    options = parser.parse_args()

    pipe = FSVideoPipeline.from_pretrained(options.model) if options.model else FSVideoPipeline.default()
    wanted = {"image": options.photo, "prompt": options.prompt}
    wanted |= {"num_frames": 13, "height": 64, "width": 64, "num_inference_steps": 2} if options.tiny else {}

    def make(accelerator: object) -> object:
        return pipe(**wanted, generator=torch.Generator().manual_seed(0), accelerator=accelerator)

    calibrator = Calibrator(window=2)
    exact = make(calibrator)  # measures, and changes nothing
    scheduled = calibrator.accelerator(
        exact.acceleration, model="this one", saving=0.01 if options.tiny else options.saving
    )
    everywhere = AsymRnR(AsymRnRConfig(q=((0.0, 0.25),), kv=(), window=2, min_gain=0.0))
    for name, accelerator in (("where tokens are alike", scheduled), ("a quarter of all queries", everywhere)):
        clip = make(accelerator)
        error = np.square(exact.frames.astype(np.float64) - clip.frames).mean()
        saved = 100 * clip.acceleration["flops"]["removed_share"]
        print(f"{name}: {saved:.1f} % saved, PSNR {10 * np.log10(255**2 / max(error, 1e-9)):.1f} dB")
        print(
            "\n".join(clip.acceleration["heat_map"]["q"])
        )  # a line a block, a digit a step: tenths of queries dropped


if __name__ == "__main__":
    main()
