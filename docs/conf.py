"""
Sphinx's configuration.  The pages pass axe: see CONTRIBUTING.rst.
"""

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes

sys.path.insert(0, str(Path(__file__).parent.parent))

from xferd._version import __version__

project = "xferd"
project_copyright = "xferd's authors"
version = release = __version__

extensions: list[str] = []
root_doc = "index"
highlight_language = "text"
nitpicky = True

templates_path = ["_templates"]
exclude_patterns = ["images/*"]
pygments_style = "bw"

html_theme = "alabaster"
html_title = f"xferd {__version__}"
html_theme_options = {
    "description": "moves container images, and every byte once",
    "code_font_size": "0.8em",
    "fixed_sidebar": True,
    "page_width": "76rem",
    "show_relbar_bottom": True,
    # Alabaster's own greys have less contrast than WCAG 2 asks for.
    "footer_text": "#595959",
    "anchor": "#767676",
    "sidebar_link_underscore": "#767676",
}
html_sidebars = {"**": ["about.html", "searchfield.html", "navigation.html"]}
html_static_path = ["_static"]
html_js_files = ["scroll.js"]
html_copy_source = False
html_show_sphinx = False

# The installed manual: the same pages, see packaging/deb.
man_pages = [
    ("xferctl", "xferctl", "pull, push and copy container images through xferd", "", 1),
    ("xferd", "xferd", "the daemon that moves container images, and its snapshotter", "", 8),
    ("configuration", "xferd.toml", "settings of xferd", "", 5),
]


def correct(_app: Any, _page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    """
    Put each table into an element that scrolls, and complete the roles of headings and landmarks.
    """
    if "body" in context:
        body = context["body"]
        body = re.sub(r"(<table .*?</table>)", r'<div class="scroll">\1</div>', body, flags=re.DOTALL)
        body = body.replace('role="heading"', 'role="heading" aria-level="2"')
        context["body"] = body.replace(
            '<nav class="contents local"', '<nav aria-label="On this page" class="contents local"'
        )


def unlink(app: Any, doctree: nodes.document, _page: str) -> None:
    """
    Emphasize the names of other pages in manual pages, which have no links.
    """
    if app.builder.format == "man":
        for link in list(doctree.findall(nodes.reference)):
            if "://" not in link.get("refuri", ""):
                link.replace_self(nodes.emphasis("", "", *link.children))


def setup(app: Any) -> None:
    """
    Connect to Sphinx.
    """
    app.connect("html-page-context", correct)
    app.connect("doctree-resolved", unlink)
