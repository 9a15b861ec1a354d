"""
The client of the OCI distribution-spec: manifests, blobs and referrers of
registries and their mirrors, with authentication.

C{transport} makes requests, C{auth} gets credentials and tokens, C{hosts} reads
the configuration of registries, and C{push} writes.

Other packages see no HTTP status and no exception of L{twisted.web}: every
failure leaves this package as an L{XferdError<xferd.errors.XferdError>}.
"""
