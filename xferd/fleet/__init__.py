"""
A fleet: several nodes that download each blob once.

The nodes know of one another by an L{ICoordination
<xferd.interfaces.fleet.ICoordination>}, and send one another the bytes.  Without
a fleet in the settings nothing of this package is imported.
"""
