"""What shed.py and outcome.py share: the office's key, a signed call, its answer. Any toolkit that signs will do."""

import ssl
import time
import urllib.request
import uuid
from pathlib import Path

from gridpost import exchange
from gridpost.model import Header
from gridpost.wssecurity import KeySigner

ADDRESS = "https://127.0.0.1:8444/utility"


def now_utc_ms() -> int:
    """Return the time."""
    return time.time_ns() // 1_000_000


def header(verb: str, noun: str) -> Header:
    """Return the Header of a new message of ours."""
    return Header(verb, noun, now_utc_ms(), "GRID-CO", str(uuid.uuid4()))


def call(body: bytes) -> bytes:
    """Seal a Body's child with our key, post it, and return the answer as it came: signed by the bus."""
    signer = KeySigner.from_pem(Path("grid-co.key").read_bytes(), Path("grid-co.pem").read_bytes())
    sealed = exchange.seal(body, signer, now_utc_ms())
    request = urllib.request.Request(ADDRESS, sealed, {"Content-Type": "text/xml; charset=utf-8"})
    trusted = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile="tls-ca.pem"))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), trusted)
    return opener.open(request, timeout=60).read()
