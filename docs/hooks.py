"""Puts on the site what its pages link to beside docs/, such as hub/RESULTS.md: links are as in the repository.

docs/ is the site's root there, and what lies beside it keeps its path: hub/RESULTS.md is the page hub/RESULTS.html.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files that pages link to, and those that these link to."""
    pages = list(files.documentation_pages())
    for page in pages:  # grows
        for link in LINK.findall(page.content_string):
            uri = _target(page, link)
            if files.get_file_from_path(uri) is None and (ROOT / uri).is_file():
                files.append(found := File.generated(config, uri, abs_src_path=str(ROOT / uri)))
                pages += [found] if found.is_documentation_page() else []
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to where the files are on the site."""

    def moved(link: re.Match[str]) -> str:
        uri = _target(page.file, link[0])
        return posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".") if uri in files.src_uris else link[0]

    return LINK.sub(moved, markdown)


def _target(page: File, link: str) -> str:
    """Where a link of a page leads, from the site's root."""
    place = page.src_uri if page.generated_by else f"docs/{page.src_uri}"
    return posixpath.normpath(posixpath.join(posixpath.dirname(place), link)).removeprefix("docs/")
