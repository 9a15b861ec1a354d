"""
What a user asks for: a pull, and in time a push and a copy.

This room joins the transfer engine with the registry, the store and the
unpacker; none of those knows another.
"""
