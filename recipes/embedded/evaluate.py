"""Score the embedded model on validation photos and clips: the table that `just eval-embedded` prints.

A clip's true frames are the exact warp of the photo (camera_motion.py). Frame 0 is the centred square of the photo
whose side is the short side over 1.5, at 128 x 128, so that every motion of normal strength shows real content. Video
scores count the pixels whose source lies inside frame 0, over frames 1 to 16, one PSNR a clip.
"""

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from camera_motion import MOTIONS, STILL, Motion, canonical, pair, paraphrase
from data import Clips, Photos
from fastvid_pipelines import FSVideoPipeline
from fastvid_vae import FSAE, psnr, ssim
from torch import Tensor
from torch.nn import functional

SIZE = 128
NUM_FRAMES = 17
TIMES = [frame / (NUM_FRAMES - 1) for frame in range(NUM_FRAMES)]


def masked_psnr(frames: Tensor, truth: Tensor, mask: Tensor) -> float:
    """PSNR in dB of (3, T, H, W) frames in [-1, 1] over the pixels of a (T, H, W) mask."""
    error = (frames.clamp(-1, 1) - truth).square().mean(dim=0)[mask].mean()
    return float(10 * torch.log10(4 / error.clamp(min=1e-10)))


def bicubic_8x(frames: Tensor) -> Tensor:
    """Each frame of (3, T, H, W) an eighth of the size and back."""
    small = functional.interpolate(frames.transpose(0, 1), scale_factor=1 / 8, mode="bicubic", antialias=True)
    return functional.interpolate(small, frames.shape[2:], mode="bicubic").clamp(-1, 1).transpose(0, 1)


def mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 2)


@torch.inference_mode()
def reconstruction_scores(autoencoder: torch.nn.Module, clips: list[Tensor]) -> dict[str, float]:
    """Mean PSNR of reconstructions with the first frame as reference, beside two baselines."""
    scores: dict[str, list[float]] = {"autoencoder": [], "static": [], "bicubic 8x": []}
    for clip in clips:
        first = clip[:, 0]
        decoded = autoencoder.decode(autoencoder.encode(clip[None]), reference=first[None])[0]
        for name, frames in (
            ("autoencoder", decoded.clamp(-1, 1)),
            ("static", first[:, None].expand_as(clip)),
            ("bicubic 8x", bicubic_8x(clip)),
        ):
            scores[name].append(float(psnr(frames[None], clip[None])))
    return {name: mean(values) for name, values in scores.items()}


def reconstruction_table(autoencoder: torch.nn.Module, photos: Photos, clips: Clips) -> dict[str, dict[str, float]]:
    """Camera-motion clips of photos (the eight moving ones in turn) and centred windows of real clips."""
    motions = [motion for name, motion in MOTIONS.items() if name != STILL]
    moving = [photos.centred(i, motions[i % len(motions)], TIMES, SIZE)[0] for i in range(len(photos.names))]
    real = [clips.centred(i, NUM_FRAMES, SIZE) for i in range(len(clips.names))]
    return {
        "photos": reconstruction_scores(autoencoder, moving),
        "real clips": reconstruction_scores(autoencoder, real),
    }


def video_scores(
    generate: Callable[[Tensor, str], Tensor],
    photos: Photos,
    prompts: Callable[[int], list[tuple[str, str, Motion]]],
    num_photos: int,
) -> dict[str, dict[str, float]]:
    """Per row name: mean PSNR over visible pixels, how often the motion is the one asked for, and what motion gains.

    The gain over a static video has no meaning where the truth is one, so rows with the still prompt have none.

    Args:
        generate: photo (3, H, W) and prompt to frames (3, T, H, W) in [-1, 1].
        prompts: photo index to row name, prompt and what it asks for.
    """
    rows: dict[str, dict[str, list[float]]] = {}
    for index in range(num_photos):
        for name, prompt, motion in prompts(index):
            truth, mask = photos.centred(index, motion, TIMES, SIZE)
            frames = generate(truth[:, 0], prompt)
            row = rows.setdefault(name, {"psnr": [], "accuracy": [], "static": []})
            row["psnr"].append(masked_psnr(frames[:, 1:], truth[:, 1:], mask[1:]))
            row["accuracy"].append(100.0 * (nearest_motion(frames, photos, index, motion) == motion))
            if motion != MOTIONS[STILL]:
                row["static"].append(masked_psnr(truth[:, :1].expand_as(truth)[:, 1:], truth[:, 1:], mask[1:]))
    scores = {}
    for name, row in rows.items():
        if len(row["static"]) == len(row["psnr"]):
            row["gain"] = [model - static for model, static in zip(row["psnr"], row["static"], strict=True)]
        else:
            del row["static"]
        scores[name] = {score: mean(values) for score, values in row.items()}
    return scores


def nearest_motion(frames: Tensor, photos: Photos, index: int, asked: Motion) -> Motion:
    """Of the nine motions and the one asked for, the one whose true clip is nearest over its visible pixels."""
    candidates = list(dict.fromkeys([*MOTIONS.values(), asked]))
    scores = []
    for motion in candidates:
        truth, mask = photos.centred(index, motion, TIMES, SIZE)
        scores.append(masked_psnr(frames[:, 1:], truth[:, 1:], mask[1:]))
    return candidates[scores.index(max(scores))]


def prompts_of(kind: str, index: int) -> list[tuple[str, str, Motion]]:
    """Row name, prompt and motion: the nine plain sentences, or for every photo another draw of ways to ask."""
    rng = random.Random(f"{kind} {index}")
    if kind == "plain":
        return [(name, name, motion) for name, motion in MOTIONS.items()]
    moving = {name: motion for name, motion in MOTIONS.items() if name != STILL}
    if kind == "paraphrases":
        return [(kind, paraphrase(name, 1.0, rng), motion) for name, motion in MOTIONS.items()]
    if kind in ("slowly", "quickly"):
        strength = 0.5 if kind == "slowly" else 1.5
        return [(kind, canonical(name, strength), motion.times(strength)) for name, motion in moving.items()]
    names = list(moving)
    axes = [names[i : i + 2] for i in range(0, len(names), 2)]
    chosen = [[rng.choice(axis) for axis in rng.sample(axes, 2)] for _ in range(8)]
    return [(kind, pair(one, two, 1.0, rng), moving[one].plus(moving[two])) for one, two in chosen]


def refined_scores(pipe: FSVideoPipeline, photos: Photos, num_photos: int) -> dict[str, dict[str, float]]:
    """Videos twice as large, per moving prompt: refined, and the base model's own enlarged bicubically.

    PSNR counts visible pixels, SSIM the whole frames; both leave frame 0 out.
    """
    generate = generator_of(pipe)
    rows: dict[str, dict[str, list[float]]] = {}
    for index in range(num_photos):
        for name, motion in MOTIONS.items():
            truth, mask = photos.centred(index, motion, TIMES, 2 * SIZE)
            small = functional.interpolate(truth[None, :, 0], scale_factor=0.5, mode="bicubic", antialias=True)
            base = generate(small[0].clamp(-1, 1), name).transpose(0, 1)
            enlarged = functional.interpolate(base, scale_factor=2.0, mode="bicubic").clamp(-1, 1).transpose(0, 1)
            row = rows.setdefault(name, {})
            for kind, frames in (("refined", generate(truth[:, 0], name)), ("bicubic", enlarged)):
                later, true_later = frames[:, 1:].clamp(-1, 1), truth[:, 1:]
                row.setdefault(f"{kind} psnr", []).append(masked_psnr(later, true_later, mask[1:]))
                row.setdefault(f"{kind} ssim", []).append(float(ssim(later[None], true_later[None])))
    video = {name: {score: mean(values) for score, values in row.items()} for name, row in rows.items()}
    return video | {"eight moving": moving_mean(video)}


@torch.inference_mode()
def velocity_error(pipe: FSVideoPipeline, photos: Photos, num_photos: int) -> float:
    """Root mean square error of the transformer's velocity at nine noise levels: its loss, on validation photos."""
    errors = []
    for index in range(num_photos):
        prompts = list(MOTIONS)
        clips = [photos.centred(index, MOTIONS[name], TIMES, SIZE)[0] for name in prompts]
        latents = torch.cat([pipe.autoencoder.encode(clip[None]) for clip in clips])
        text = pipe.text_encoder.encode(prompts)
        sigma = torch.linspace(0.1, 0.9, len(prompts)).roll(index)  # every prompt at every level in nine photos
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(index))
        share = sigma.view(-1, 1, 1, 1, 1)
        condition = pipe.transformer.first_frame_condition(latents[:, :, :1], latents.shape[2])
        noisy = (1 - share) * latents + share * noise
        velocity = pipe.transformer(noisy, 1000 * sigma, text.tokens, text.mask, condition=condition)
        errors.append((velocity - (noise - latents)).square().mean().sqrt().item())
    return round(sum(errors) / len(errors), 4)


def generator_of(pipe: FSVideoPipeline) -> Callable[[Tensor, str], Tensor]:
    """Photo and prompt to frames of the photo's size, otherwise at the pipeline's defaults, with seed 0."""

    def generate(photo: Tensor, prompt: str) -> Tensor:
        height, width = photo.shape[1:]
        generator = torch.Generator().manual_seed(0)
        clip = pipe(image=photo, prompt=prompt, height=height, width=width, generator=generator, output_type="pt")
        return clip.frames[0]

    return generate


def mean_rows(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means of the scores that all rows have."""
    shared = [score for score in rows[0] if all(score in row for row in rows)]
    return {score: mean([row[score] for row in rows]) for score in shared}


def moving_mean(video: dict[str, dict[str, float]]) -> dict[str, float]:
    """Mean of the rows of the eight moving prompts."""
    return mean_rows([video[name] for name in MOTIONS if name != STILL])


def score(
    pipe: FSVideoPipeline, photos: Photos, clips: Clips, num_photos: int
) -> dict[str, dict[str, dict[str, float]]]:
    """The whole table."""
    generate = generator_of(pipe)
    video = video_scores(generate, photos, partial(prompts_of, "plain"), num_photos)
    video |= {"eight moving": moving_mean(video), "all nine": mean_rows([video[name] for name in MOTIONS])}
    for kind in ("paraphrases", "slowly", "quickly", "pairs"):
        video |= video_scores(generate, photos, partial(prompts_of, kind), max(1, num_photos // 3))
    return {"reconstruction": reconstruction_table(pipe.autoencoder, photos, clips), "video": video}


def ablation(
    pipe: FSVideoPipeline, plain: FSVideoPipeline, photos: Photos, num_photos: int, psnr_with_memory: float
) -> dict[str, dict[str, float]]:
    """Loss and PSNR of the eight moving prompts with layer memory and without."""
    video = video_scores(generator_of(plain), photos, partial(prompts_of, "plain"), num_photos)
    return {
        "layer memory": {"loss": velocity_error(pipe, photos, num_photos), "psnr": psnr_with_memory},
        "no layer memory": {"loss": velocity_error(plain, photos, num_photos), "psnr": moving_mean(video)["psnr"]},
    }


def table(report: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = [f"{'reconstruction, PSNR in dB':38s}{'model':>8s}{'static':>8s}{'bicubic':>9s}"]
    for name, row in report["reconstruction"].items():
        lines.append(f"{name:38s}{row['autoencoder']:8.2f}{row['static']:8.2f}{row['bicubic 8x']:9.2f}")
    if "video" in report:
        lines += [
            "",
            f"{'video, visible pixels, PSNR in dB':38s}{'model':>8s}{'static':>8s}{'gain':>7s}{'motion %':>10s}",
        ]
    for name, row in report.get("video", {}).items():
        gain = f"{row['static']:8.2f}{row['gain']:7.2f}" if "gain" in row else " " * 15
        lines.append(f"{name:38s}{row['psnr']:8.2f}{gain}{row['accuracy']:10.1f}")
    if "256 pixels" in report:
        lines += ["", f"{'256 pixels, refined against bicubic':38s}{'PSNR':>8s}{'':>8s}{'gain':>7s}{'SSIM':>8s}"]
    for name, row in report.get("256 pixels", {}).items():
        refined, bicubic = row["refined psnr"], row["bicubic psnr"]
        similar = f"{row['refined ssim']:8.3f}{row['bicubic ssim']:8.3f}"
        lines.append(f"{name:38s}{refined:8.2f}{bicubic:8.2f}{refined - bicubic:7.2f}{similar}")
    if "layer memory" in report:
        lines += ["", f"{'layer memory, same steps and seed':38s}{'loss':>8s}{'PSNR':>8s}"]
        for name, row in report["layer memory"].items():
            lines.append(f"{name:38s}{row['loss']:8.4f}{row['psnr']:8.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with photos/ and clips/")
    parser.add_argument("--model", type=Path, help="a pipeline folder; the embedded model where it is not given")
    parser.add_argument("--without-memory", type=Path, help="the pipeline folder of the same without layer memory")
    parser.add_argument("--autoencoder", type=Path, help="score the autoencoder of this folder, and no videos")
    parser.add_argument("--photos", type=int, default=36, help="how many validation photos")
    parser.add_argument("--output", type=Path, help="also write the scores as JSON here")
    arguments = parser.parse_args()

    photos, clips = Photos(arguments.data, "validation"), Clips(arguments.data, "validation", short_side=SIZE)
    if arguments.autoencoder:
        print(
            table({"reconstruction": reconstruction_table(FSAE.from_pretrained(arguments.autoencoder), photos, clips)})
        )
        return
    pipe = FSVideoPipeline.from_pretrained(arguments.model) if arguments.model else FSVideoPipeline.default()
    num_photos = min(arguments.photos, len(photos.names))
    report = score(pipe, photos, clips, num_photos)
    if pipe.refiner is not None:
        report["256 pixels"] = refined_scores(pipe, photos, num_photos)
    if arguments.without_memory:
        plain = FSVideoPipeline.from_pretrained(arguments.without_memory)
        psnr_with_memory = report["video"]["eight moving"]["psnr"]
        report["layer memory"] = ablation(pipe, plain, photos, num_photos, psnr_with_memory)
    print(table(report))
    if arguments.output:
        facts = {"photos": num_photos, "sampling": asdict(pipe.sampling), "torch": torch.__version__}
        arguments.output.write_text(json.dumps(facts | report, indent=1) + "\n")


if __name__ == "__main__":
    main()
