"""
Tests of xferd; C{tests/integration} needs other programs.
"""

import signal

from hypothesis import HealthCheck, settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell ignores SIGINT for its background jobs, and child processes would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# On a busy machine, an example and its making may take longer than hypothesis allows by default.
settings.register_profile("xferd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("xferd")
