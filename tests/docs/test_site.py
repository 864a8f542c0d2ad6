"""The site: builds without a warning, has a page for every rule, every link leads somewhere, nothing is loaded from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from unstuck.rules import rules

REPO = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """Anchors and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {k: v or "" for k, v in attrs}
        if "id" in told:
            self.anchors.add(told["id"])
        if tag == "a" and "href" in told:
            self.links.append(told["href"])
        if tag in {"script", "img", "iframe", "source"} and told.get("src"):
            self.loaded.append(told["src"])
        if tag == "link" and told.get("rel") not in {"canonical", "prev", "next"}:
            self.loaded.append(told["href"])


@pytest.fixture(scope="module")
def built(site) -> dict[Path, Page]:
    folder, _ = site
    return {file: Page(file.read_text(encoding="utf-8")) for file in folder.rglob("*.html")}


def test_builds_without_a_warning(site) -> None:
    folder, said = site
    assert (folder / "index.html").is_file()
    assert said == []


def test_every_rule_has_its_page_and_is_in_the_menu(site, built) -> None:
    folder, _ = site
    menu = (folder / "rules" / "index.html").read_text(encoding="utf-8")
    for code, rule in rules().items():
        text = (folder / "rules" / f"{code}.html").read_text(encoding="utf-8")
        assert f"{code} {rule.name}" in text and "Not to be confused with" in text
        assert f'href="{code}.html"' in menu, f"{code} cannot be reached from the overview"
    pages = {p.stem for p in (folder / "rules").glob("*.html")} - {"index"}
    assert pages == set(rules())


def test_every_link_leads_to_a_page_and_an_anchor(site, built) -> None:
    folder, _ = site
    broken = []
    for file, page in built.items():
        if file.name == "404.html":  # served for any address, so its links are absolute
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                broken.append(f"{file.relative_to(folder)}: {link}")
            elif parts.fragment and target in built and unquote(parts.fragment) not in built[target].anchors:
                broken.append(f"{file.relative_to(folder)}: {link} (no such anchor)")
    assert not broken


def test_nothing_is_loaded_from_elsewhere(site, built) -> None:
    folder, _ = site
    for file, page in built.items():
        assert [x for x in page.loaded if urlsplit(x).netloc] == [], file.relative_to(folder)
    for file in folder.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", file.read_text(encoding="utf-8")), file.relative_to(folder)


def test_external_links_are_few_and_well_formed(site, built) -> None:
    links = {link for page in built.values() for link in page.links if urlsplit(link).scheme}
    assert all(urlsplit(x).scheme == "https" and "." in urlsplit(x).netloc for x in links), links
    assert len(links) <= 20


def test_no_directive_and_no_tex_is_left_over(site, built) -> None:
    folder, _ = site
    for file in built:
        text = file.read_text(encoding="utf-8")
        assert "<!-- unstuck:" not in text and "arithmatex" not in text, file.relative_to(folder)
    assert (folder / "statistics.html").read_text(encoding="utf-8").count("<math") > 50


def test_sources_of_the_generator_are_not_published(site) -> None:
    folder, _ = site
    assert not list(folder.rglob("*.py")) and not list(folder.rglob("overhead.json"))
