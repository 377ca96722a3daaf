"""A hook of mkdocs: links from Docs/ to other files of the repository work on the site as they do on GitHub.

Pictures below Resources/Screenshots are copied into the site; every other link that leaves Docs/ becomes the address
of the file on GitHub. A link to a file that does not exist ends the build. A reader's browser asks no other server for
anything: the theme would fetch the repository's star count from GitHub.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
SCREENSHOTS = "Resources/Screenshots/"
OUTSIDE = re.compile(r"\]\(\.\./([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, *, config: MkDocsConfig, **others: Any) -> Files:
    """Add the screenshots and the icon to the files of the site."""
    files.append(File.generated(config, "icon.png", abs_src_path=str(ROOT / "Resources/Icons/SynthGAN.png")))
    for path in sorted((ROOT / SCREENSHOTS).glob("*.png")):
        files.append(File.generated(config, f"screenshots/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, **others: Any) -> str:
    """Rewrite the links that leave Docs/."""

    def rewritten(match: re.Match[str]) -> str:
        target, anchor = match.group(1), match.group(2) or ""
        if not (ROOT / target).exists():
            raise PluginError(f"{page.file.src_uri}: the link to '../{target}' leads nowhere.")
        if target.startswith(SCREENSHOTS):
            return f"](screenshots/{Path(target).name})"
        kind = "tree" if (ROOT / target).is_dir() else "blob"
        return f"]({config.repo_url}/{kind}/main/{target}{anchor})"

    return OUTSIDE.sub(rewritten, markdown)


def on_post_page(output: str, **others: Any) -> str:
    """Keep the link to the repository and drop the mark by which the theme's script finds it."""
    return output.replace(' data-md-component="source"', "")


def on_post_template(output_content: str, **others: Any) -> str:
    """The same for the page that is shown where there is none."""
    return on_post_page(output_content)
