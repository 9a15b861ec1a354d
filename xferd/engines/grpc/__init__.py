"""
gRPC over HTTP/2 on unix sockets, as Twisted protocols on the package C{h2}: L{server},
L{client}, and what both share.  Messages are C{protobuf}'s, or plain bytes.

Both packages are the extra C{xferd[engines]}; only what an engine needs imports this.
"""
