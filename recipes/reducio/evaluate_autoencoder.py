"""Reconstruct the validation clips, 16 frames of 128 x 128, with one or more autoencoders: PSNR and SSIM beside each.

Beside them stands the content frame, shown 16 times: what a decoder that only copies it would reach.
"""

import argparse
import json
from pathlib import Path

import torch
from fastvid_vae import ReducioVAE, psnr, ssim
from reducio_clips import overlap, validation_clips
from torch import Tensor

STATIC = "content frame, still"
Scores = dict[str, dict[str, float]]


@torch.inference_mode()
def reconstruct(model: ReducioVAE, clip: Tensor, tile: int | None) -> Tensor:
    """Frames (3 T H W) in [-1, 1] out of the clip's mean latents and, where the model fuses one, its middle frame."""
    frames = clip[None]
    content = None if model.config.fusion == "none" else model.content_frames(frames)
    with model.tiled(spatial=tile, overlap=overlap(tile)):
        decoded = model.decode(model.encode(frames), reference=content)
    return decoded[0].clamp(-1, 1)


def score(pairs: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Means over clips of PSNR in dB and SSIM."""
    scores = {"psnr": psnr, "ssim": ssim}
    return {
        name: sum(float(measure(a[None], b[None])) for a, b in pairs) / len(pairs) for name, measure in scores.items()
    }


def evaluate(model: ReducioVAE, clips: dict[str, list[Tensor]], tile: int | None) -> Scores:
    """Scores of the reconstructions, by kind of clip."""
    return {kind: score([(reconstruct(model, clip, tile), clip) for clip in some]) for kind, some in clips.items()}


def still_scores(clips: dict[str, list[Tensor]]) -> Scores:
    """Scores of videos that show the content frame and nothing else."""
    middle = {kind: [clip[:, (clip.shape[1] - 1) // 2] for clip in some] for kind, some in clips.items()}
    return {
        kind: score([(frame[:, None].expand_as(clip), clip) for frame, clip in zip(middle[kind], some, strict=True)])
        for kind, some in clips.items()
    }


def table(rows: dict[str, Scores]) -> str:
    """PSNR and SSIM on both kinds of clips; one line a model."""
    kinds = list(next(iter(rows.values())))
    lines = [f"{'':24s}" + "".join(f"{kind:>20s}" for kind in kinds)]
    for name, scores in rows.items():
        cells = "".join(f"{scores[kind]['psnr']:11.2f} dB{scores[kind]['ssim']:6.3f}" for kind in kinds)
        lines.append(f"{name:24s}{cells}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with photos/ and clips/")
    parser.add_argument("runs", type=Path, nargs="+", help="output folders of train_autoencoder.py")
    parser.add_argument("--tile", type=int, help="work in tiles of this side, such as that of the training; else whole")
    parser.add_argument("--output", type=Path, help="also write the scores as JSON here")
    options = parser.parse_args()

    clips = validation_clips(options.data)
    rows = {STATIC: still_scores(clips)}
    fusions: dict[str, Scores] = {}
    for run in options.runs:
        model = ReducioVAE.from_pretrained(run / "vae").eval()
        rows[str(run)] = fusions[model.config.fusion] = evaluate(model, clips, options.tile)
    print(table(rows))
    if {"attention", "none"} <= fusions.keys():
        for kind in clips:
            gain = fusions["attention"][kind]["psnr"] - fusions["none"][kind]["psnr"]
            print(f"attention is {gain:+.2f} dB from no fusion on {kind}")
    if options.output:
        options.output.write_text(json.dumps({"tile": options.tile, "scores": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
