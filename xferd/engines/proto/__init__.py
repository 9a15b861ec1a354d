"""
The messages of the engines' APIs, from the C{.proto} files beside this.

A module C{X_pb2} holds the descriptor of C{X.proto} as bytes, and makes the classes from
it by C{protobuf}'s public functions when it is imported; C{X_pb2.pyi} has their types.
Both are made by C{python -m tests.engines.proto} and kept with the source: an
installation needs no compiler, and any release of C{protobuf} that has these functions
will do, while the code that C{protoc} itself generates is bound to one or two of its
major versions.
"""
