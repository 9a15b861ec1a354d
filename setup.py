"""
The one part of the metadata that setup.cfg cannot express: the description is README.rst without
its pictures, because a package index cannot resolve their relative paths.
"""

import re
from pathlib import Path

from setuptools import setup

readme = (Path(__file__).parent / "README.rst").read_text()
setup(long_description=re.sub(r"^\.\. image:: .*\n(?: +.*\n)*\n", "", readme, flags=re.MULTILINE))
