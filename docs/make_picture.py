"""Takes the picture of the HTML report that the README and the first page show: docs/assets/report.png.

    python docs/make_picture.py [--report FILE] [--output FILE]

Runs gallery/demo/train.py under `unstuck run --verify`, writes the HTML report, and photographs its top in a headless Chromium
(`chromium` must be on the PATH). The picture is of the real report: nothing is drawn by hand.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--force-device-scale-factor=1",
)  # fmt: skip


def report(folder: Path) -> Path:
    """The HTML report of the demo, run in `folder`."""
    shutil.copytree(REPO / "gallery" / "demo", folder / "demo", ignore=shutil.ignore_patterns("__pycache__", ".unstuck"))
    page = folder / "report.html"
    subprocess.run(
        [sys.executable, "-m", "unstuck", "run", "--quiet", "--verify", "60s", "-o", str(page), "train.py"],
        cwd=folder / "demo", env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    return page


def photograph(page: Path, output: Path, width: int, height: int) -> None:
    """The top of a page as a PNG. RuntimeError where Chromium is missing or draws nothing."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise RuntimeError("chromium is not on the PATH; on Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [chromium, *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}",
             "--virtual-time-budget=8000", f"--screenshot={output}", page.as_uri()],
            capture_output=True, timeout=120, check=False,
        )  # fmt: skip
    if not output.is_file():
        raise RuntimeError(f"chromium took no picture of {page}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=REPO / "docs" / "assets" / "report.png")
    parser.add_argument("--report", type=Path, metavar="FILE", help="photograph this HTML report instead of making one")
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--height", type=int, default=1330)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        page = options.report.resolve() if options.report is not None else report(Path(scratch))
        photograph(page, options.output.resolve(), options.width, options.height)


if __name__ == "__main__":
    main()
