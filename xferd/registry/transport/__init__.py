"""
HTTP to registries, token servers and storage: requests and their redirects,
connections, TLS, proxies, bodies, and the limits on all of them.

No other package imports L{twisted.web.client} or treq, and no exception of
theirs leaves this one.
"""
