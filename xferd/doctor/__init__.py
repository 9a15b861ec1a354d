"""
The examination of a running daemon: L{xferd.doctor.doctor} makes the checks of
L{xferd.doctor.files}, L{xferd.doctor.network} and L{xferd.doctor.machine}.
"""
