"""
The zope Interfaces at which xferd's packages meet, with their life cycles, and
the values that cross them: one module for each seam.

C{transfer}, C{registry}, C{store} and C{unpack} do not import one another;
C{jobs} joins them through these Interfaces.

Cancelling a Deferred that an Interface returns cancels the work behind it,
unless its docstring says otherwise.
"""
