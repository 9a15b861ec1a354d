"""
Container engines that run images from the store.  L{xferd.engines.settings} names them;
L{xferd.engines.engines} starts and stops them.  The code of an engine is imported only
if the settings name one of its kind.
"""
