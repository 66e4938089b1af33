"""Teach the text encoder what a sentence asks of the camera, before any video: words alone are cheap."""

import random

import torch
from camera_motion import Motion, sample_request
from fastvid_dit.training.schedule import warmup_cosine
from fastvid_pipelines.encoders.byte import ByteTextEncoder, tokenize
from torch import Tensor, nn

LEARNING_RATE = 2e-3
BATCH_SIZE = 64


def numbers(motion: Motion) -> tuple[float, float, float, float]:
    """Pan, tilt, zoom and roll in units of the plain sentences' motions."""
    return motion.pan / 0.25, motion.tilt / 0.25, motion.zoom / 0.4, motion.roll / 15


def teach(encoder: ByteTextEncoder, num_steps: int) -> float:
    """Train in place until every token tells a linear probe, thrown away, the motion of its whole sentence.

    Returns:
        The root mean square error of the last tenth of the steps, whose sentences were drawn for them.
    """
    torch.manual_seed(0)
    probe = nn.Linear(encoder.config.width, 4)
    parameters = [*encoder.parameters(), *probe.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.95), fused=True)
    last = []
    for step in range(num_steps):
        factor = warmup_cosine(step, num_steps=num_steps, warmup_steps=min(100, num_steps), final_ratio=0.0)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * factor
        byte_ids, mask, asked = sentences(random.Random(f"sentences {step}"), encoder.config.max_bytes)
        error = (probe(encoder(byte_ids, mask)) - asked[:, None])[mask]
        loss = error.square().mean()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if 10 * (step + 1) > 9 * num_steps:
            last.append(loss.item())
    return float((sum(last) / len(last)) ** 0.5)


def sentences(rng: random.Random, max_bytes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Bytes and mask of a batch of requests, and the numbers (b, 4) that they ask for."""
    requests = [sample_request(rng) for _ in range(BATCH_SIZE)]
    byte_ids, mask = tokenize([request.prompt(rng) for request in requests], max_bytes)
    return byte_ids, mask, torch.tensor([numbers(request.motion) for request in requests])
