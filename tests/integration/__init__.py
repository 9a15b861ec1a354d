"""
xferd with real registries, clients, engines and browsers.
"""

from twisted.trial import util

# A limit shows what hangs.  With ten processes for each processor, what takes a second takes ten.
util.DEFAULT_TIMEOUT_DURATION = 600.0
