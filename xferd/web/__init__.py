"""
The HTTP API and the status page, on Klein.

L{xferd.web.app} has the routes.  L{xferd.web.site} limits what a request may
send, L{xferd.web.guard} admits it, and the modules that end in C{_request}
read it.  L{xferd.web.responses} makes JSON of values and of errors,
L{xferd.web.event_response} and L{xferd.web.archive_response} stream, and
L{xferd.web.static_files} serves the page.  L{xferd.web.openapi} describes all
of it.
"""
