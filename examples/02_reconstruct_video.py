"""A video through the autoencoder and back: how small the latents are, and what is lost.

uv run python examples/02_reconstruct_video.py in.mp4 out.mp4
"""

import argparse
from pathlib import Path

import torch
from einops import rearrange
from fastvid_pipelines import Clip, FSVideoPipeline, read_video, save_video
from fastvid_vae import FSAE, psnr, ssim


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", type=Path, help="folder of another pipeline")
    parser.add_argument("--tiny", action="store_true", help="only 5 frames: only to see that it runs")
    options = parser.parse_args()

    if options.model:
        autoencoder = FSAE.from_pretrained(options.model, subfolder="vae")
    else:
        autoencoder = FSVideoPipeline.default().autoencoder
    video = read_video(options.video, max_frames=5 if options.tiny else 17)
    frames = rearrange(torch.from_numpy(video.frames), "t h w c -> 1 c t h w") / 127.5 - 1

    with torch.inference_mode():
        latents = autoencoder.encode(frames)
        size = (frames.shape[3], frames.shape[4])
        decoded = autoencoder.decode(latents, reference=frames[:, :, 0], num_frames=frames.shape[2], size=size)
    decoded = decoded.clamp(-1, 1)

    print(
        f"{tuple(frames.shape)} -> {tuple(latents.shape)}: {frames.numel() / latents.numel():.0f} times fewer numbers"
    )
    print(f"PSNR {psnr(decoded, frames).item():.2f} dB, SSIM {ssim(decoded, frames).item():.4f}")
    pixels = rearrange(((decoded[0] + 1) * 127.5).round().byte(), "c t h w -> t h w c").numpy()
    save_video(Clip(frames=pixels, fps=video.fps, seconds={}, latent_frames=()), options.output)


if __name__ == "__main__":
    main()
