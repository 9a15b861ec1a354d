# -*- test-case-name: tests.engines.test_extra -*-
"""
The packages that only some engines need: the extra C{xferd[engines]}.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Final

from xferd.errors import ConfigError

_MODULES: Final = ("h2", "google.protobuf")


def check_extra(engine: str, load: Callable[[str], object] = import_module) -> None:
    """
    Check that the packages are installed, before what needs them is imported.

    @param engine: the setting that needs them, for the error.
    @param load: imports a module.
    @raise ConfigError: one is missing.
    """
    for name in _MODULES:
        try:
            load(name)
        except ImportError as e:
            raise ConfigError(
                f"{engine} needs the Python package {name}, which is not installed: "
                "install xferd with the extra 'engines' (pip install 'xferd[engines]')"
            ) from e
