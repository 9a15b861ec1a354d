"""
Content-addressed blobs: complete ones in L{blobs}, those still arriving in
L{partials} (by digest, with gaps in L{spans}) and L{anonymous} (digest
unknown until the last byte).
"""
