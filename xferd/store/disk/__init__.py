"""
The disk under the data directory: durable writes and removals, permissions,
free space, the space held in reserve, and the space in use.
"""
