"""
The HTTP API and the status page, on Klein.
"""
