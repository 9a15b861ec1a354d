"""
xferd moves container images between registries and a local store, for many
clients at once, and moves every byte once.
"""

from xferd._version import __version__

__all__ = ["__version__"]
