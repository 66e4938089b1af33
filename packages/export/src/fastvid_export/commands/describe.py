"""An engine's record in words."""

from pathlib import Path

from fastvid_export.guard import shown
from fastvid_export.record import EngineRecord


def describe(record: EngineRecord, folder: Path) -> str:
    """Several lines: what it is, what it takes and gives, its profiles, and how it was compared."""
    size = sum(file.size for file in record.files)
    what = "the engine" if record.parity_of == "engine" else "its graph, as the engine could not run where it was built"
    worst = record.parity.get("worst_relative_error")
    lines = [
        f"{folder}: {record.name}, {record.backend} {record.backend_version} for {' '.join(record.target)}",
        f"  key {record.key}",
        f"  {record.precision}, {record.flavour}, {size} bytes, built in {record.seconds:g} s on {record.created}",
        *(f"  takes {tensor.name} {tensor.dtype} {shown(tensor.shape)}" for tensor in record.inputs),
        f"  gives {', '.join(record.outputs)}",
    ]
    for profile in record.profiles:
        ranges = " ".join(
            f"{axis}={bounds.minimum}:{bounds.example}:{bounds.maximum}" for axis, bounds in profile.axes.items()
        )
        lines.append(f"  profile {profile.name}: {ranges}")
    cases = len(record.parity.get("cases", ()))
    error = "no number" if worst is None else f"{worst:.1e}"
    lines.append(f"  compared with eager: {what}; {cases} comparisons, largest relative error {error}")
    return "\n".join(lines)
