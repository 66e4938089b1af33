"""Where weights come from: a file or folder, or a repository of the hub; under which name, revision and licence.

Nothing is guessed. What the hub or an earlier conversion says is taken; for all else the caller has to say it.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastvid_pipelines.checkpoint import CONFIG_NAME, read_json
from fastvid_pipelines.errors import CheckpointError
from fastvid_pipelines.foreign_weights import PICKLES

RECORD_NAME = "source.json"
SAID = ("source", "revision", "licence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What people need to know about weights before they use them."""

    source: str
    revision: str
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsSource:
    """A file or folder on this machine, its origin, and the record of the conversion that made it, if one did."""

    location: Path
    origin: Origin
    record: dict[str, Any] | None

    @property
    def folder(self) -> Path:
        """The folder in which the configuration lies."""
        return self.location.parent if self.location.is_file() else self.location


def find_source(
    name: str, *, subfolder: str | None, source: str | None, revision: str | None, licence: str | None, stem: str
) -> WeightsSource:
    """The weights that `name` means.

    Args:
        name: a file, a folder, or `owner/name` of a repository.
        subfolder: the model's folder inside it.
        source, revision, licence: of a file or folder, where no earlier conversion wrote them down; of a repository,
            `revision` says which one to fetch and `licence` what its README leaves open.
        stem: what the files of weights are called, without their ending.
    Raises:
        CheckpointError: nothing there, or a repository that cannot be reached.
        ValueError: an origin that nobody has told.
    """
    if not name:
        raise ValueError("`src` is empty; expected a file, a folder or a repository (owner/name)")
    if os.path.exists(name):
        return _local(Path(name), subfolder, {"source": source, "revision": revision, "licence": licence})
    if Path(name).is_absolute() or name.startswith(".") or name.count("/") != 1:
        raise CheckpointError(f"`src` is {name!r}: no such file or folder, and no repository name (owner/name)")
    if source is not None:
        raise ValueError(f"`source` is {source!r}; of a repository it is the repository, so leave it away")
    return _hub(name, subfolder, revision, licence, stem)


def _local(path: Path, subfolder: str | None, said: dict[str, str | None]) -> WeightsSource:
    if subfolder is not None and path.is_file():
        raise ValueError(f"`subfolder` is {subfolder!r}, but {str(path)!r} is a file")
    location = path / subfolder if subfolder else path
    if not (location.is_file() or location.is_dir()):
        raise CheckpointError(f"`src` is {str(location)!r}: no such file or folder")
    folder = location.parent if location.is_file() else location
    record = read_json(folder / RECORD_NAME) if (folder / RECORD_NAME).is_file() else None
    written = {key: value for key, value in (record or {}).items() if key in SAID and isinstance(value, str)}
    known = written | {key: value for key, value in said.items() if value}
    missing = [f"`{key}`" for key in SAID if key not in known]
    if missing:
        raise ValueError(
            f"{', '.join(missing)} must be given: neither {str(location)!r} nor a {RECORD_NAME} beside it says where "
            "these weights come from and what their licence allows"
        )
    origin = Origin(source=known["source"], revision=known["revision"], licence=known["licence"])
    return WeightsSource(location=location, origin=origin, record=record)


def _hub(name: str, subfolder: str | None, revision: str | None, licence: str | None, stem: str) -> WeightsSource:
    from huggingface_hub import snapshot_download  # half a second, which a folder that is here need not wait for

    prefix = f"{subfolder}/" if subfolder else ""
    wanted = [
        CONFIG_NAME,
        RECORD_NAME,
        f"{stem}.safetensors",
        f"{stem}-*.safetensors",
        f"{stem}.safetensors.index.json",
    ]
    wanted += [f"{stem}{ending}" for ending in PICKLES]
    try:
        root = Path(
            snapshot_download(
                name, revision=revision, allow_patterns=["README.md", *(prefix + pattern for pattern in wanted)]
            )
        )
    except (OSError, ValueError) as error:  # what the hub's client raises: unknown, private, offline, invalid name
        raise CheckpointError(
            f"`src` is {name!r}: no such file or folder here, and not found on the hub, or not reachable: {error}"
        ) from error
    if not re.fullmatch("[0-9a-f]{40}", root.name):
        raise CheckpointError(f"`src` is {name!r}: its copy {root} does not carry the name of a commit")
    known = licence or _licence(root / "README.md")
    if known is None:
        raise ValueError(f"`licence` must be given: the README of {name!r} does not say it")
    location = root / subfolder if subfolder else root
    record = read_json(location / RECORD_NAME) if (location / RECORD_NAME).is_file() else None
    return WeightsSource(
        location=location, origin=Origin(source=name, revision=root.name, licence=known), record=record
    )


def _licence(readme: Path) -> str | None:
    """What the metadata on top of a README says; 'other' says nothing unless it has a name."""
    from huggingface_hub import metadata_load

    if not readme.is_file():
        return None
    metadata = metadata_load(readme)
    found = metadata.get("license") if isinstance(metadata, dict) else None
    if found == "other" and isinstance(metadata, dict):
        found = metadata.get("license_name")
    return found if isinstance(found, str) and found else None
