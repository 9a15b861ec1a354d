"""
Real daemons that are killed at instants drawn from a seed: C{python -m tests.crash}.

L{campaign <tests.crash.campaign>} runs rounds of L{work <tests.crash.work>} at one
L{site <tests.crash.site>}; after each kill L{store_check <tests.crash.store_check>} reads what is on the
disk, and L{traffic <tests.crash.traffic>} counts the bytes that were moved twice.
"""
