"""Run the examples of the gallery, and keep what they draw and print.

Run: python docs/gallery/make_pictures.py     (writes docs/gallery/*.png and *.txt)
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXAMPLES = ("cartography_map",)


def main() -> None:
    """Run each example in a folder of its own, as a user would."""
    for name in EXAMPLES:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, HERE.parents[1] / "examples" / f"{name}.py"]
            done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)  # noqa: S603
            shutil.copy(Path(folder) / f"{name}.png", HERE / f"{name}.png")
        (HERE / f"{name}.txt").write_text(done.stdout, encoding="utf-8")


if __name__ == "__main__":
    main()
