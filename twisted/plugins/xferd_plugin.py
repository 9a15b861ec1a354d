"""
The C{twistd} plugin of xferd.

Every C{twistd} and C{trial} run on the machine imports this file, so it names
the service and imports nothing of it.
"""

from twisted.application.service import ServiceMaker

xferd = ServiceMaker(
    "xferd",
    "xferd.tap",
    "Pull container images for many clients, moving every byte once.",
    "xferd",
)
