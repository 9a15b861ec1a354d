"""
The rights of the registry's clients: who a client is, what it may do with a
repository, and with which credentials the upstream is requested.
"""
