"""Trust in use: rights and roll-over of keys, foreign CAs and their CRLs, factors, alarms.

A column's meaning and unit is its comment, as in 0001. Revision 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from cryptography import x509

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_BATCH = 1000
_ENDED = {"certificate_revoked": "revoked_at_utc_ms", "certificate_replaced": "ends_at_utc_ms"}


def _certificate() -> tuple[sa.Column[object], ...]:
    ends = "from when on a newer key of the IED has replaced this one; NULL while none has"
    return (
        sa.Column("name", _TEXT, nullable=False, server_default="", comment="what people call the key; may be empty"),
        sa.Column("rights", _TEXT, comment="rights of the key, comma-separated, sorted; NULL: all"),
        sa.Column("ends_at_utc_ms", sa.BigInteger, comment=ends),
        sa.Column("issuer_sha256", sa.LargeBinary, comment="SHA-256 of the foreign CA that issued it; NULL: our own"),
        sa.Column("revoked_by", _TEXT, comment="operator or crl; NULL while in force"),
        sa.Column(
            "not_after_utc_ms", sa.BigInteger, nullable=False, server_default="0", comment="the end of its validity"
        ),
    )


def upgrade() -> None:
    """Add columns and tables, and read every certificate's end."""
    for column in _certificate():
        op.add_column("certificate", column)
    op.execute("UPDATE certificate SET revoked_by = 'operator' WHERE revoked_at_utc_ms IS NOT NULL")
    if not op.get_context().as_sql:
        _read_ends(op.get_bind())
    op.create_index("certificate_not_after", "certificate", ["not_after_utc_ms"])
    for name, end in _ENDED.items():
        ended = sa.text(f"{end} IS NOT NULL")
        op.create_index(name, "certificate", [end], sqlite_where=ended, postgresql_where=ended)
    factors = "JSON object: authentication factor -> what it must be; NULL: none"
    op.add_column("ied", sa.Column("factors", _TEXT, comment=factors))
    op.create_table(
        "crl",
        sa.Column("issuer_sha256", sa.LargeBinary, primary_key=True, comment="SHA-256 of `issuer`"),
        sa.Column("issuer", sa.LargeBinary, nullable=False, comment="the CA's certificate, DER"),
        sa.Column("own", sa.Integer, nullable=False, comment="1: the device CA's, made by this bus; 0: imported"),
        sa.Column("number", _TEXT, nullable=False, comment="CRL number, decimal; never falls"),
        sa.Column("this_update_utc_ms", sa.BigInteger, nullable=False, comment="when it was made"),
        sa.Column("next_update_utc_ms", sa.BigInteger, nullable=False, comment="until when it is good"),
        sa.Column("taken_at_utc_ms", sa.BigInteger, nullable=False, comment="when it came into this store"),
        sa.Column("der", sa.LargeBinary, nullable=False, comment="the list, DER"),
        comment="the newest list of revoked certificates of each CA",
    )
    op.create_table(
        "alarm",
        sa.Column("code", _TEXT, primary_key=True, comment="alarm code, docs/errors.md"),
        sa.Column("count", sa.BigInteger, nullable=False, comment="alarms with that code since the store was made"),
        sa.Column("last_at_utc_ms", sa.BigInteger, nullable=False, comment="when the newest was counted"),
        comment="alarms, counted; the details are in the audit log",
    )
    op.create_table(
        "expiry_notice",
        sa.Column("sha256", sa.LargeBinary, primary_key=True, comment="SHA-256 of a certificate or CRL, DER"),
        sa.Column("days", sa.Integer, nullable=False, comment="the step told last: 60, 30, 7, or 0 when it ended"),
        sa.Column("told_at_utc_ms", sa.BigInteger, nullable=False, comment="when"),
        comment="which ends of certificates and CRLs were already told to the audit log",
    )


def _read_ends(connection: sa.Connection) -> None:
    """Take the ends out of the certificates, some at a time: there may be a million."""
    seen = b""
    query = sa.text("SELECT sha256, der FROM certificate WHERE sha256 > :seen ORDER BY sha256 LIMIT :most")
    change = sa.text("UPDATE certificate SET not_after_utc_ms = :ends WHERE sha256 = :sha256")
    while rows := connection.execute(query, {"seen": seen, "most": _BATCH}).all():
        connection.execute(change, [{"sha256": row.sha256, "ends": _ends_utc_ms(bytes(row.der))} for row in rows])
        seen = rows[-1].sha256


def _ends_utc_ms(der: bytes) -> int:
    try:
        return int(x509.load_der_x509_certificate(der).not_valid_after_utc.timestamp()) * 1000
    except (ValueError, x509.InvalidVersion):
        return 0  # what nobody can read signs nothing; its end is past


def downgrade() -> None:
    """Drop all of it. An older Gridpost cannot restrict a key: restricted ones sign nothing new."""
    op.execute(
        "UPDATE certificate SET revoked_at_utc_ms = bound_at_utc_ms"
        " WHERE revoked_at_utc_ms IS NULL AND (rights IS NOT NULL OR issuer_sha256 IS NOT NULL)"
    )
    op.execute(
        "UPDATE certificate SET revoked_at_utc_ms = ends_at_utc_ms"
        " WHERE revoked_at_utc_ms IS NULL AND ends_at_utc_ms IS NOT NULL"
    )
    for table in ("expiry_notice", "alarm", "crl"):
        op.drop_table(table)
    op.drop_column("ied", "factors")
    for name in ("certificate_not_after", *_ENDED):
        op.drop_index(name, "certificate")
    for added in reversed(_certificate()):
        op.drop_column("certificate", added.name)
