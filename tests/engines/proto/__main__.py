"""
Make C{X_pb2.py} and C{X_pb2.pyi} from each C{X.proto}: C{python -m tests.engines.proto}.
"""

from __future__ import annotations

from tests.engines.proto.generate import PROTO, compiled, module, sources

for source in sources():
    descriptor, stub = compiled(source)
    stem = PROTO / f"{source.stem}_pb2"
    stem.with_suffix(".py").write_text(module(descriptor, source.name))
    stem.with_suffix(".pyi").write_text(stub)
