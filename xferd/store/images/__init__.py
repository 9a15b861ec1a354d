"""
Named images, which are the entries of C{content/index.json}, and the time at
which each was last used.
"""
