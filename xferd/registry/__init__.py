"""
The reading side of the OCI distribution-spec: documents and blobs, whatever
authentication, redirects and broken connections stand in between.

Nothing above this room knows an HTTP status or an exception of
L{twisted.web}: what goes wrong leaves here as an L{XferdError
<xferd.errors.XferdError>}.
"""
