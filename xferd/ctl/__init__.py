"""
xferctl, the command line client: it speaks the HTTP API, and to unpack an
image it reads the layers where the API says that they are.
"""
