"""
Tests of xferd; C{tests/integration} needs other programs.
"""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell ignores SIGINT for its background jobs, and child processes would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
