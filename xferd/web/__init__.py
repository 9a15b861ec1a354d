"""
The HTTP API and the status page, on Klein.

L{xferd.web.app} has the routes, L{xferd.web.guard} decides who may use them,
L{xferd.web.site} bounds what a request may send, L{xferd.web.event_response} streams
events, L{xferd.web.responses} makes JSON of values and of errors, and
L{xferd.web.static_files} serves the files of the page.
"""
