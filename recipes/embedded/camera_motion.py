"""The embedded model's task: a camera motion over a photo, as a prompt and as an exact warp.

With u in [0, 1] the time of a frame, and positions in pixels of frame 0, the content of a frame comes from

    source(p) = centre + pan(u) + R(-roll(u)) (p - centre) / scale(u)

sampled bilinearly. Panning moves the view by 0.25 of the width, tilting by 0.25 of the height, zooming scales the
content by 1 + 0.4 u or its inverse, rolling turns it by 15 degrees. "Slowly" halves and "quickly" takes 1.5 times that.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """What the camera does in one clip; zeros hold still.

    Attributes:
        pan: how far the view moves right by the end, as a share of the width.
        tilt: how far it moves down, as a share of the height.
        zoom: content scale 1 + zoom u where positive, 1 / (1 - zoom u) where negative.
        roll: how far the content turns clockwise, in degrees.
    """

    pan: float = 0.0
    tilt: float = 0.0
    zoom: float = 0.0
    roll: float = 0.0

    def times(self, strength: float) -> "Motion":
        return Motion(
            pan=self.pan * strength, tilt=self.tilt * strength, zoom=self.zoom * strength, roll=self.roll * strength
        )

    def plus(self, other: "Motion") -> "Motion":
        return Motion(
            pan=self.pan + other.pan,
            tilt=self.tilt + other.tilt,
            zoom=self.zoom + other.zoom,
            roll=self.roll + other.roll,
        )


STILL = "the camera holds still"
MOTIONS: dict[str, Motion] = {
    "the camera pans left": Motion(pan=-0.25),
    "the camera pans right": Motion(pan=0.25),
    "the camera tilts up": Motion(tilt=-0.25),
    "the camera tilts down": Motion(tilt=0.25),
    "the camera zooms in": Motion(zoom=0.4),
    "the camera zooms out": Motion(zoom=-0.4),
    "the camera rolls clockwise": Motion(roll=15.0),
    "the camera rolls counterclockwise": Motion(roll=-15.0),
    STILL: Motion(),
}

# For each motion: verb and direction, the verb as (third person, bare, -ing form).
_PAN = [
    ("pans", "pan", "panning"),
    ("moves", "move", "moving"),
    ("slides", "slide", "sliding"),
    ("shifts", "shift", "shifting"),
]
_TILT = [
    ("tilts", "tilt", "tilting"),
    ("moves", "move", "moving"),
    ("looks", "look", "looking"),
    ("pans", "pan", "panning"),
]
_ZOOM_IN = [
    ("zooms in", "zoom in", "zooming in"),
    ("pushes in", "push in", "pushing in"),
    ("moves closer", "move closer", "moving closer"),
    ("moves in", "move in", "moving in"),
    ("dollies in", "dolly in", "dollying in"),
    ("moves forward", "move forward", "moving forward"),
]
_ZOOM_OUT = [
    ("zooms out", "zoom out", "zooming out"),
    ("pulls back", "pull back", "pulling back"),
    ("pulls out", "pull out", "pulling out"),
    ("moves away", "move away", "moving away"),
    ("dollies out", "dolly out", "dollying out"),
    ("moves back", "move back", "moving back"),
]
_ROLL = [
    ("rolls", "roll", "rolling"),
    ("rotates", "rotate", "rotating"),
    ("turns", "turn", "turning"),
    ("spins", "spin", "spinning"),
]
_DIRECTIONS: dict[str, tuple[list[tuple[str, str, str]], list[str]]] = {
    "the camera pans left": (_PAN, ["left", "to the left", "leftward", "leftwards"]),
    "the camera pans right": (_PAN, ["right", "to the right", "rightward", "rightwards"]),
    "the camera tilts up": (_TILT, ["up", "upward", "upwards"]),
    "the camera tilts down": (_TILT, ["down", "downward", "downwards"]),
    "the camera zooms in": (_ZOOM_IN, [""]),
    "the camera zooms out": (_ZOOM_OUT, [""]),
    "the camera rolls clockwise": (_ROLL, ["clockwise"]),
    "the camera rolls counterclockwise": (
        _ROLL,
        ["counterclockwise", "counter-clockwise", "anticlockwise", "anti-clockwise"],
    ),
}
_STILL = [
    "the camera holds still", "the camera stays still", "the camera remains still", "the camera is still",
    "the camera does not move", "the camera doesn't move", "the camera is static", "the camera stays fixed",
    "the camera is fixed", "the camera stands still", "a static shot", "static camera", "static shot",
    "no camera motion", "no camera movement", "no motion", "a locked-off shot", "hold still", "keep the camera still",
    "the camera keeps still", "the camera is locked", "the scene stays still", "still camera",
]  # fmt: skip
_ADVERBS = {0.5: ["slowly", "gently", "gradually"], 1.5: ["quickly", "rapidly", "fast"]}
_ADJECTIVES = {0.5: ["slow", "gentle"], 1.5: ["quick", "fast", "rapid"]}
_SUBJECTS = ["the camera", "camera", "the view", "the shot", "a camera"]


def canonical(name: str, strength: float = 1.0) -> str:
    """The plain sentence for one of the nine motions, with its strength word."""
    word = {0.5: "slowly ", 1.0: "", 1.5: "quickly "}[strength]
    return name.replace("the camera ", f"the camera {word}")


def paraphrase(name: str, strength: float, rng: random.Random) -> str:
    """Another way to ask for one of the nine motions."""
    if name == STILL:
        return _finish(rng.choice(_STILL), rng)
    third, bare, gerund, direction = _words(name, rng)
    if strength != 1.0 and rng.random() < 0.15:
        noun = f"a {rng.choice(_ADJECTIVES[strength])} {bare} {direction}"
        return _finish(noun, rng)
    adverb = "" if strength == 1.0 else rng.choice(_ADVERBS[strength])
    subject = rng.choice(_SUBJECTS) if rng.random() < 0.5 else "the camera"
    verb, lead = rng.choice(
        [(third, subject), (third, subject), (third, subject), (bare, ""), (gerund, ""), (gerund, "camera")]
    )
    if adverb and adverb != "fast" and rng.random() < 0.6:
        return _finish(f"{lead} {adverb} {verb} {direction}", rng)
    return _finish(f"{lead} {verb} {direction} {adverb}", rng)


def pair(first: str, second: str, strength: float, rng: random.Random) -> str:
    """Two motions at once; a strength word governs both."""
    one, _, _, one_direction = _words(first, rng)
    two, _, two_gerund, two_direction = _words(second, rng)
    adverb = "" if strength == 1.0 else rng.choice(_ADVERBS[strength][:2])
    joint = f"and {two}" if rng.random() < 0.7 else f"while {two_gerund}"
    return _finish(f"the camera {adverb} {one} {one_direction} {joint} {two_direction}", rng)


def _words(name: str, rng: random.Random) -> tuple[str, str, str, str]:
    verbs, directions = _DIRECTIONS[name]
    third, bare, gerund = rng.choice(verbs) if rng.random() < 0.6 else verbs[0]
    return third, bare, gerund, rng.choice(directions)


def _finish(text: str, rng: random.Random) -> str:
    text = " ".join(text.split())
    return text + rng.choice(["", "", "."])


@dataclass(frozen=True, slots=True)
class Request:
    """One or two of the nine motions and how strong; it can be worded in many ways."""

    names: tuple[str, ...]
    strength: float

    @property
    def motion(self) -> Motion:
        total = Motion()
        for name in self.names:
            total = total.plus(MOTIONS[name])
        return total.times(self.strength)

    def prompt(self, rng: random.Random) -> str:
        if len(self.names) == 2:
            return pair(*self.names, self.strength, rng)
        if rng.random() < 0.4:
            return canonical(self.names[0], self.strength)
        return paraphrase(self.names[0], self.strength, rng)


def sample_request(rng: random.Random) -> Request:
    """A training request: single motions of every strength, and pairs of different kinds."""
    names = list(MOTIONS)
    strength = rng.choice([0.5, 1.0, 1.0, 1.5])
    if rng.random() < 0.2:
        axes = [names[0:2], names[2:4], names[4:6], names[6:8]]
        one, two = (rng.choice(axis) for axis in rng.sample(axes, 2))
        return Request((one, two), strength)
    name = rng.choice(names)
    return Request((name,), 1.0 if name == STILL else strength)


def sample_motion(rng: random.Random) -> Motion:
    """Any camera motion up to about twice the named ones; what an autoencoder should have seen."""
    kind = rng.random()
    if kind < 0.1:
        return Motion()
    name = rng.choice(list(MOTIONS))
    motion = MOTIONS[name].times(rng.uniform(0.3, 2.0))
    if kind < 0.5:
        return motion
    other = Motion(
        pan=rng.uniform(-0.3, 0.3), tilt=rng.uniform(-0.3, 0.3), zoom=rng.uniform(-0.4, 0.4), roll=rng.uniform(-15, 15)
    )
    return replace(other, pan=other.pan + motion.pan / 2, tilt=other.tilt + motion.tilt / 2)


def sources(motion: Motion, times: Sequence[float], height: int, width: int) -> Tensor:
    """(T, H, W, 2): for every pixel of every frame the place (x, y) in frame 0 that it shows."""
    u = torch.tensor(times, dtype=torch.float32).view(-1, 1, 1)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    dx, dy = x - (width - 1) / 2, y - (height - 1) / 2
    scale = 1 + motion.zoom * u if motion.zoom >= 0 else 1 / (1 - motion.zoom * u)
    angle = torch.deg2rad(-motion.roll * u)
    source_x = (width - 1) / 2 + motion.pan * width * u + (angle.cos() * dx - angle.sin() * dy) / scale
    source_y = (height - 1) / 2 + motion.tilt * height * u + (angle.sin() * dx + angle.cos() * dy) / scale
    return torch.stack([source_x, source_y], dim=-1)


def offsets(places: Tensor) -> Tensor:
    """(T, H, W, 2): (x, y) from every pixel to the place in frame 0 that it shows."""
    y, x = torch.meshgrid(torch.arange(places.shape[1]), torch.arange(places.shape[2]), indexing="ij")
    return places - torch.stack([x, y], dim=-1)


def visible(places: Tensor, height: int, width: int) -> Tensor:
    """(T, H, W) bool: pixels whose source lies inside frame 0."""
    x, y = places.unbind(-1)
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def warp(canvas: Tensor, places: Tensor, origin: tuple[int, int]) -> Tensor:
    """(3, T, h, w): `canvas` (3, H, W) sampled bilinearly at `places`; frame 0's corner lies at `origin` (x, y)."""
    size = torch.tensor([canvas.shape[2] - 1, canvas.shape[1] - 1], dtype=torch.float32)
    grid = 2 * (places + torch.tensor(origin, dtype=torch.float32)) / size - 1
    frames = functional.grid_sample(
        canvas.expand(len(places), -1, -1, -1), grid, mode="bilinear", padding_mode="reflection", align_corners=True
    )
    return frames.transpose(0, 1)
