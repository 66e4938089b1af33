"""What an engine shall be able to do, in the words of those who make videos."""

import re
from dataclasses import dataclass, fields

GRAMMAR = "FRAMESxHEIGHTxWIDTH, with settings after a colon, such as 121x720x1280:merged=0.5,keep_q=0.7,keep_kv=0.5"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One kind of call.

    Attributes:
        frames: of the video.
        height: in pixels, of the video that the part works on: below a refiner that is the small one.
        width: likewise.
        batch: videos at once; 2 for guidance, which runs both branches together.
        keep_q: share of the queries that token reduction keeps in a reduced block, above 0; 1 reduces nothing.
        keep_kv: likewise for keys and values.
        merged: share of the latent frames that is left at most merging, above 0; 1 merges nothing. Every number from
            there to all frames belongs to the workload.
    """

    frames: int
    height: int
    width: int
    batch: int = 1
    keep_q: float = 1.0
    keep_kv: float = 1.0
    merged: float = 1.0

    def __post_init__(self) -> None:
        for name in ("frames", "height", "width", "batch"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(
                    f"`{name}` of a workload must be at least 1, got {value}; the nearest legal values are 1 and 2"
                )
        for name in ("keep_q", "keep_kv", "merged"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                nearest = "1" if value > 1 else "above 0, such as 0.05"
                raise ValueError(
                    f"`{name}` of a workload must be above 0 and at most 1, got {value}; the nearest legal value is"
                    f" {nearest}"
                )

    @property
    def reduces(self) -> bool:
        """Whether it drops tokens."""
        return self.keep_q < 1 or self.keep_kv < 1

    @property
    def merges(self) -> bool:
        """Whether it merges frames."""
        return self.merged < 1

    @staticmethod
    def parse(text: str) -> "Workload":
        """`17x128x128`, or `121x720x1280:merged=0.5,keep_q=0.7,keep_kv=0.5,batch=2`.

        Raises:
            ValueError: another form, an unknown or repeated setting, or a value out of range.
        """
        match = re.fullmatch(r"(\d+)x(\d+)x(\d+)(?::(.+))?", text)
        if match is None:
            raise ValueError(f"`workload` is {text!r}; expected {GRAMMAR}")
        known = {field.name: field.type for field in fields(Workload)[3:]}
        settings: dict[str, float] = {}
        for setting in filter(None, (match[4] or "").split(",")):
            name, _, value = setting.partition("=")
            if name not in known:
                raise ValueError(f"`workload` {text!r} sets {name!r}; it can set {', '.join(known)}")
            if name in settings:
                raise ValueError(f"`workload` {text!r} sets {name} twice")
            try:
                settings[name] = int(value) if known[name] is int else float(value)
            except ValueError:
                raise ValueError(f"`workload` {text!r} sets {name} to {value!r}, which is no number") from None
        sizes = {name: int(match[number]) for number, name in enumerate(("frames", "height", "width"), 1)}
        return Workload(**sizes, **settings)  # type: ignore[arg-type]  # by name, of the types above
