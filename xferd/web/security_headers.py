# -*- test-case-name: tests.web.test_guard -*-
"""
The headers of every response: L{BoundedChannel<xferd.web.site.BoundedChannel>} writes them.
"""

from __future__ import annotations

from typing import Final

SECURITY_HEADERS: Final = {
    b"content-security-policy": (
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        b"require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"server": b"xferd",
}
"""For pages: no foreign scripts, frames or requests (CSP, Fetch, HTML)."""

SECURITY_LINES: Final = b"".join(b"%s: %s\r\n" % header for header in SECURITY_HEADERS.items())
"""The same as lines of a head."""
