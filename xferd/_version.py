"""
The version of xferd.
"""

__version__ = "0.1.0"
