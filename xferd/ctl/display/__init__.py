"""
What C{xferctl} shows on a terminal: progress of jobs, copies and downloads,
and the board of C{xferctl watch}.  L{xferd.ctl.display.bars} and
L{xferd.ctl.display.screen} alone import C{rich}.
"""
