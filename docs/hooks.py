"""What mkdocs calls while it builds the site; the work is in pages.py."""

from __future__ import annotations

import sys
from pathlib import Path

from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))
import pages


def on_config(config):
    """The menu: the rules' own section, filled from the package."""
    for entry in config.nav:
        if entry.get("Diagnoses") == "rules/":
            entry["Diagnoses"] = pages.navigation()
    return config


def on_files(files, config):
    """Pages that exist only as output."""
    for path, text in pages.generated().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Directives."""
    return pages.fill(markdown)


def on_page_content(html, page, config, files):
    """Formulas."""
    return pages.formulas(html)
