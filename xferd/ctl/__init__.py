"""
xferctl, the command line client: it speaks the HTTP API and nothing else.
"""
