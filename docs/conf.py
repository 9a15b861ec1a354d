"""
How Sphinx builds the documentation: plainly.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from xferd._version import __version__

project = "xferd"
project_copyright = "xferd's authors"
version = release = __version__

extensions: list[str] = []
root_doc = "index"
highlight_language = "text"
nitpicky = True

html_theme = "alabaster"
html_title = f"xferd {__version__}"
html_theme_options = {
    "description": "moves container images, and every byte once",
    "code_font_size": "0.8em",
    "fixed_sidebar": True,
    "page_width": "72rem",
}
html_copy_source = False
html_show_sphinx = False
