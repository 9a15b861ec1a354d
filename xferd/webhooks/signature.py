# -*- test-case-name: tests.webhooks.test_signature -*-
"""
The signature of a message, by "Standard Webhooks" 1.0.0
(U{https://github.com/standard-webhooks/standard-webhooks}), which has libraries for
receivers in many languages.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final

PREFIX: Final = b"whsec_"
"""The beginning of a secret in base64."""


def signed_headers(secrets: Sequence[bytes], delivery: str, timestamp: int, body: bytes) -> Mapping[str, str]:
    """
    The headers that sign a message: its ID, its time, and an HMAC-SHA256 of ID, time and
    body for each secret.

    @param secrets: the new one and, while receivers change, the old one.
    @param delivery: the ID, the same when the message is sent again.
    @param timestamp: the time of sending, in seconds since 1970.
    """
    signed = f"{delivery}.{timestamp}.".encode("ascii") + body
    signatures = (b64encode(hmac.digest(key_of(secret), signed, sha256)).decode() for secret in secrets)
    return {
        "Webhook-Id": delivery,
        "Webhook-Timestamp": str(timestamp),
        "Webhook-Signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def key_of(secret: bytes) -> bytes:
    """
    The key of a secret: C{whsec_} and base64, or any other text, which is the key itself.
    """
    if secret.startswith(PREFIX):
        try:
            return b64decode(secret.removeprefix(PREFIX), validate=True)
        except Error:
            pass
    return secret
