"""The store of bench/million.py: a Gridpost folder whose database knows a million IEDs and five million message ids.

Made by bulk SQL into the tables that `gridpost init` made, and kept in a work folder for the next run. What a message
meets is real: each IED has a certificate of the folder's CA and channels of its own, each known id is an entry, and
the log's tree is whole over all of them. What no message meets is short: known entries have placeholders for receipts
and no evidence, as if pruned; all IEDs share one key, so that a load generator can hold it.
"""

import json
import random
import sqlite3
import time
from datetime import UTC, datetime
from hashlib import sha256

import servers
import workload
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from equal_work import say
from gridpost.server.store.schema import SCHEMA

from gridpost import merkle
from gridpost.wssecurity import KeySigner

NUMBER_DIGITS = 7
_NUMBER = 1 << 120  # IED 0's certificate's: 16 bytes, and so are all others'
_VALID = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC))
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_DAY_MS = 86_400_000
_KNOWN_FOR_DAYS = 30  # the known ids came in during so many days
_RECEIPT = b"<placeholder/>"
_INDEXES = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN (%s)"
_FILLED = ("ied", "certificate", "channel", "entry", "log_node")


def serial_of(number):
    """Return the IED's serial."""
    return f"IED-{number:0{NUMBER_DIGITS}d}"


def channels_of(number):
    """Return the IED's channels, as workload has them."""
    return workload.channels(f"UP{number:0{NUMBER_DIGITS}d}", f"M{number:0{NUMBER_DIGITS}d}")


def prepared(work, ieds, known):
    """Return the folder of a store with so many IEDs and known ids, made unless it is there."""
    folder = work / f"{ieds}-ieds-{known}-ids"
    stamp, wanted = folder / "made.json", {"ieds": ieds, "known": known, "schema": SCHEMA}
    if stamp.exists() and json.loads(stamp.read_text()) == wanted:
        return folder
    if folder.exists():
        raise SystemExit(f"{folder} is of another schema or unfinished: remove it")
    work.mkdir(parents=True, exist_ok=True)
    servers.init_ours(folder, servers.Bus(https=True))
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "devices.key").write_bytes(
        key.private_bytes(servers.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    _fill(folder, key, ieds, known)
    stamp.write_text(json.dumps(wanted))
    return folder


def read_through(folder):
    """Read the store's file once: of a bus that has served for an hour, its pages are in the system's memory."""
    with (folder / "gridpost.db").open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def signers(folder, numbers):
    """Return {number: Signer} of these IEDs."""
    key = serialization.load_pem_private_key((folder / "devices.key").read_bytes(), password=None)
    found = {}
    with sqlite3.connect(folder / "gridpost.db") as sql:
        for number in numbers:
            (der,) = sql.execute("SELECT der FROM certificate WHERE serial = ?", (serial_of(number),)).fetchone()
            found[number] = KeySigner(key, der)
    sql.close()
    return found


def _fill(folder, key, ieds, known):
    sql = sqlite3.connect(folder / "gridpost.db", isolation_level=None)
    sql.executescript("PRAGMA synchronous = OFF; PRAGMA cache_size = -400000;")
    names = ", ".join(f"'{name}'" for name in _FILLED)
    indexes = sql.execute(_INDEXES % names).fetchall()
    for name, _ in indexes:
        sql.execute(f"DROP INDEX {name}")
    now = time.time_ns() // 1_000_000
    for table, rows in (
        ("ied", _ieds(ieds, now)),
        ("certificate", _certificates(folder, key, ieds, now)),
        ("channel", _channels(ieds)),
        ("entry", _entries(ieds, known, now)),
    ):
        say(f"filling {table}")
        _insert(sql, table, rows)
    say("growing the log's tree")
    _insert(sql, "log_node", _nodes(sql))
    say("making the indexes")
    for _, statement in indexes:
        sql.execute(statement)
    sql.executescript("ANALYZE; PRAGMA wal_checkpoint(TRUNCATE);")
    sql.close()


def _insert(sql, table, rows):
    """Insert dictionaries of one set of names."""
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return
    statement = f"INSERT INTO {table} ({', '.join(first)}) VALUES ({', '.join(f':{name}' for name in first)})"
    sql.execute("BEGIN")
    sql.execute(statement, first)
    sql.executemany(statement, rows)
    sql.execute("COMMIT")


def _ieds(count, now):
    for number in range(count):
        yield {"serial": serial_of(number), "kind": "revenue meter", "added_at_utc_ms": now}


def _certificates(folder, key, count, now):
    """One is built, the others are its copies with another number and name, each signed by the folder's CA."""
    ca_key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    issuer = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes()).subject
    model = _model(key, issuer, ca_key)
    tbs, not_after = model.tbs_certificate_bytes, int(model.not_valid_after_utc.timestamp() * 1000)
    for number in range(count):
        own = tbs.replace(_NUMBER.to_bytes(16), (_NUMBER + number).to_bytes(16), 1)
        der = signed_certificate(own.replace(serial_of(0).encode(), serial_of(number).encode(), 1), ca_key)
        yield {"sha256": sha256(der).digest(), "serial": serial_of(number), "der": der, "csr_sha256": bytes(32),
               "bound_at_utc_ms": now, "name": "", "not_after_utc_ms": not_after}  # fmt: skip


def _model(key, issuer, ca_key):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, serial_of(0))])
    usage = x509.KeyUsage(True, *[False] * 8)
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), _NUMBER, *_VALID)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(ca_key, hashes.SHA256())
    )


def signed_certificate(tbs, ca_key):
    """Return the certificate, DER, of its part to be signed (RFC 5280 section 4.1), by an ECDSA key with SHA-256."""
    signature = ca_key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    content = tbs + _ECDSA_SHA256 + bytes((3, len(signature) + 1, 0)) + signature
    return b"\x30\x82" + len(content).to_bytes(2) + content


def _channels(count):
    for number in range(count):
        for one in channels_of(number):
            yield {"serial": serial_of(number), "usage_point": one.key.usage_point, "meter": one.key.meter,
                   "stream": one.key.stream, "reading_type": one.key.reading_type, "unit": one.unit,
                   "interval_s": one.interval_s, "zone": one.zone, "valid_from_utc": one.valid_from_utc}  # fmt: skip


def _entries(ieds, known, now):
    source = random.Random(known)
    step_ms = _KNOWN_FOR_DAYS * _DAY_MS / max(1, known)
    for seq in range(known):
        at = now - int((known - seq) * step_ms)
        content = source.randbytes(32)
        yield {"partition": 0, "seq": seq, "sender": serial_of(source.randrange(ieds)),
               "message_id": workload.uuid7(at, source), "noun": "MeterReadings", "transport": "http",
               "created_utc_ms": at, "last_receipt": "", "content_sha256": content, "recorded_at_utc_ms": at,
               "evidence_sha256": content, "rows_sha256": content, "leaf_hash": content,
               "receipt": _RECEIPT}  # fmt: skip


def _nodes(sql):
    frontier = merkle.Frontier()
    leaves = sql.execute("SELECT leaf_hash FROM entry WHERE partition = 0 ORDER BY seq")
    for (leaf,) in leaves.fetchall():
        frontier, completed = merkle.append(frontier, leaf)
        for node in completed:
            yield {"partition": 0, **node._asdict()}
