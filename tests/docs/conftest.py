"""What the tests of the documentation share: the site, built once, and a folder as the reader of a page has it."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import blocks

REPO = Path(__file__).resolve().parents[2]
DEMO = REPO / "gallery" / "demo"


@pytest.fixture(scope="session")
def pages():
    return blocks.load("pages")


class Warnings(logging.Handler):
    """Keeps what mkdocs warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """(folder of the built site, warnings)"""
    os.environ["NO_MKDOCS_2_WARNING"] = "1"  # an announcement of the theme's makers, not about these pages
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    heard = Warnings()
    logger = logging.getLogger("mkdocs")
    logger.addHandler(heard)
    try:
        build(load_config(str(REPO / "mkdocs.yml"), site_dir=str(folder)))
    finally:
        logger.removeHandler(heard)
    return folder, heard.said


@pytest.fixture(scope="session")
def proved(tmp_path_factory):
    """(what README's command printed, its trace). Run once: a training, then the same with the fix and without."""
    folder = tmp_path_factory.mktemp("proved")
    shutil.copytree(DEMO, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".unstuck"))
    printed = blocks.run_command(blocks.PROVE, folder)
    (trace,) = (folder / ".unstuck").iterdir()
    return printed, trace


@pytest.fixture
def reader(tmp_path, proved):
    """A folder with train.py, model.py, the trace .unstuck/demo, and what the script printed as train.log."""
    shutil.copytree(DEMO, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".unstuck"))
    shutil.copytree(proved[1], tmp_path / ".unstuck" / "demo")
    epochs = [line for line in proved[0].splitlines() if line.startswith("epoch ")]
    (tmp_path / "train.log").write_text("\n".join(epochs) + "\n", encoding="utf-8")
    return tmp_path
