"""
The rights of the registry's clients: the identity of a client, what it may do with a
repository, and with which credentials the upstream is requested.
"""
