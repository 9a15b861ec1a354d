"""
The HTTP API and the status page, on Klein.

L{xferd.web.app} has the routes, L{xferd.web.guard} decides who may use them,
L{xferd.web.site} bounds what a request may send, L{xferd.web.feed} streams
events, L{xferd.web.answers} makes JSON of values and of errors, and
L{xferd.web.static} serves the files of the page.
"""
