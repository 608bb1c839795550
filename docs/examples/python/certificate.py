"""Checks a certificate of an erasure with a JOSE library, offline and without anything of Assent's.

    python certificate.py erasure.jws certificates.pub.pem [SECRET]

The key comes from the company by a road of its own, never with the certificate.
"""

import hashlib
import json
import sys
from pathlib import Path

from jwcrypto import jwk, jws

TYPE = "assent-erasure-certificate+jws"


def check(certificate, public_key):
    """What it certifies; an exception where a byte of it is another."""
    signed = jws.JWS()
    signed.allowed_algs = ["EdDSA"]
    signed.deserialize(certificate, jwk.JWK.from_pem(public_key))
    if signed.jose_header.get("typ") != TYPE:
        raise ValueError("not a certificate of an erasure")
    # Decoders of base64 pass over some bits: what was issued is the one spelling.
    if signed.serialize(compact=True) != certificate:
        raise ValueError("not as it was issued")
    return json.loads(signed.payload)


def is_of(certified, secret):
    """Whether it is of the request that was given this secret."""
    return hashlib.sha256(secret.encode()).hexdigest() in certified.get("secrets_sha256", [])


def main(certificate, public_key, secret=None):
    certified = check(Path(certificate).read_text(), Path(public_key).read_bytes())
    print("valid:", certified["request_id"], "completed", certified["completed_at"])
    if secret is not None:
        print("hers" if is_of(certified, secret) else "not of this secret")


if __name__ == "__main__":
    main(*sys.argv[1:])
