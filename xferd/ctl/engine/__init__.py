"""
Container engines that run images from the daemon's store: their configuration, by the
versions of the programs on this machine.
"""
