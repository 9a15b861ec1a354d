"""
C{xferctl demo}: a registry, a daemon and three clients on this machine alone.
Its registry is the only part of C{xferctl} that imports Twisted.
"""
