"""
A token server whose tokens other registries can verify.
"""

from __future__ import annotations

import json
import time
from base64 import b64encode, urlsafe_b64encode
from secrets import token_hex
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from xferd.testing.certificates import Authority
from xferd.testing.tokens import TokenServer

ISSUER = "xferd test issuer"


class SigningTokenServer(TokenServer):
    """
    Issues JSON Web Tokens (RFC 7519) as docker's token specification has them,
    signed by ES256.

    @ivar authority: the authority that has certified the key.
    """

    authority = Authority()

    def new_token(self, user: str | None, granted: tuple[str, ...]) -> str:
        """
        Sign the granted scopes.
        """
        certificate, pem = self.authority.issue("tokens")
        der = x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
        header = {"typ": "JWT", "alg": "ES256", "x5c": [b64encode(der).decode()]}
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": user or "",
            "aud": self.service,
            "iat": now,
            "nbf": now - 10,
            "exp": now + self.lifetime,
            "jti": token_hex(8),
            "access": [_access(scope) for scope in granted],
        }
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
        key = cast("ec.EllipticCurvePrivateKey", load_pem_private_key(pem, None))
        r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(SHA256())))
        return f"{signed}.{_encoded(r.to_bytes(32) + s.to_bytes(32))}"


def _access(scope: str) -> dict[str, object]:
    kind, name, action = scope.split(":")
    return {"type": kind, "name": name, "actions": [action]}


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
