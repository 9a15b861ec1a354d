"""
Complete the language and the landmarks of pydoctor's pages, so that they pass
axe.

C{python docs/accessible.py DIRECTORY} changes the pages in a directory.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

CHANGES = (
    (r"<html>", '<html lang="en">'),
    (r'<nav class="navbar ', '<nav aria-label="Indexes" class="navbar '),
    (r'<nav class="sidebar"', '<nav aria-label="Members" class="sidebar"'),
    (r'<div id="collapse-sidebar"', '<div role="navigation" aria-label="Sidebar" id="collapse-sidebar"'),
    # It may scroll, which the keyboard has to reach.
    (r"<pre ", '<pre tabindex="0" '),
)
"""Expressions, and their replacements."""


def correct(page: str) -> tuple[str, set[str]]:
    """
    Correct a page.

    @return: the page, and the expressions that it had.
    """
    found = set()
    for expression, replacement in CHANGES:
        page, count = re.subn(expression, replacement, page)
        if count:
            found.add(expression)
    if "<main" not in page:
        page = re.sub(r'(</nav>\s*<div) (class="container-fluid")', r'\1 role="main" \2', page, count=1)
    return page, found


def main(directory: str) -> None:
    """
    Correct all pages in a directory.

    @raise SystemExit: an expression is on no page, because pydoctor's pages have
        changed.
    """
    missing = {expression for expression, _ in CHANGES}
    for path in Path(directory).glob("*.html"):
        page, found = correct(path.read_text())
        path.write_text(page)
        missing -= found
    if missing:
        raise SystemExit(f"no page of pydoctor has {' or '.join(sorted(missing))}: change docs/accessible.py")


if __name__ == "__main__":
    main(sys.argv[1])
