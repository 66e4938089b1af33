"""Write split.json: which photos and clips train and which validate, by a hash of the file name.

Files that differ only in a trailing number or letter come from one scene and stay on one side.
"""

import hashlib
import json
import re
import sys
from pathlib import Path


def main(data: Path) -> None:
    split: dict[str, dict[str, list[str]]] = {}
    for kind, part in (("photos", 8), ("clips", 5)):
        split[kind] = {"train": [], "validation": []}
        for path in sorted((data / kind).iterdir()):
            scene = re.sub(r"(_?\d+[ab]?|_[ab]\d?)$", "", path.stem)
            held = int(hashlib.sha256(scene.encode()).hexdigest(), 16) % part == 0
            split[kind]["validation" if held else "train"].append(path.name)
    (Path(__file__).parent / "split.json").write_text(json.dumps(split, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
