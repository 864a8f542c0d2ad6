"""HTML, one file that opens anywhere: no request leaves it, and nothing from the training is ever markup or code.

Text goes through the template's escaping; what the pictures need are numbers, embedded as JSON. A content security policy names
the two scripts by their hashes, so that a hole in either would still run nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from unstuck.findings import Diagnosis

_FOLDER = Path(__file__).parent


def render(diagnosis: Diagnosis) -> str:
    """The page: UTF-8 text of one file, about 5 MB (Plotly's drawing code; without a curve to draw it is left out)."""
    import jinja2

    from unstuck.report.html.page import page_of

    page = page_of(diagnosis)
    charts = {chart.id: chart.data for study in (page.worst, *page.others) for chart in study.charts}
    scripts = [_script(_plotly()), _script((_FOLDER / "page.js").read_text(encoding="utf-8"))]
    scripts = scripts if charts else scripts[1:]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    text = environment.get_template("report.html.j2").render(
        page=page, data=embed(charts), scripts=scripts, policy=_policy(scripts),
        style=(_FOLDER / "style.css").read_text(encoding="utf-8"),
    )  # fmt: skip
    # A path of the file system may hold bytes that are no text (lone surrogates); a file of UTF-8 may not.
    return text.lstrip().encode("utf-8", "replace").decode("utf-8")


def embed(data: Any) -> str:
    """JSON that can stand inside a script element: it holds none of the characters that could end one or start a comment."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    code: str = get_plotlyjs()
    return code


def _script(code: str) -> str:
    """Code as a browser will read it back from the page, byte for byte: its hash stands in the policy."""
    return code.replace("\r\n", "\n").replace("\r", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _policy(scripts: list[str]) -> str:
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; "
        "form-action 'none'"
    )
