"""The site that `make docs` builds: a strict build, the whole public API, and nothing loaded from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import SynthGANLib

ROOT = Path(__file__).resolve().parents[3]
LOADED = re.compile(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"([^\"]+)\"|<link[^>]*\shref=\"([^\"]+)\"")
"""What a browser fetches without a click."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(name, reason="the site's packages are not installed: `make docs` does")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # the handler of the API page looks for the package in the current folder
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) >= len(list((ROOT / "Docs").glob("*.md")))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        found = [first or second for first, second in LOADED.findall(text)]
        assert found, page
        for address in found:
            assert not re.match(r"(https?:)?//", address), f"{page.name} loads {address}"
        assert 'data-md-component="source"' not in text, f"{page.name}: the theme would ask GitHub for the star count"


def test_every_public_name_is_documented(site: Path) -> None:
    text = (site / "api.html").read_text(encoding="utf-8")
    for name in set(SynthGANLib.__all__) - {"__version__"}:
        assert f'id="SynthGANLib.{name}"' in text, name


def test_screenshots_are_in_the_site(site: Path) -> None:
    text = (site / "tutorial.html").read_text(encoding="utf-8")
    pictures = re.findall(r"src=\"(screenshots/[^\"]+)\"", text)
    assert len(pictures) > 5
    assert all((site / picture).is_file() for picture in pictures)
