"""Makes what the walk needs and a real site has already: `python examples/office/keys.py`, in the folder of the walk.

Out: tls-ca.pem, tls.pem and tls.key (HTTPS for 127.0.0.1), grid-co.pem and grid-co.key (the office's own key, with a
certificate it signed itself), password.txt.
"""

import secrets
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def write(
    name: str, subject: str, issuer: tuple[str, ec.EllipticCurvePrivateKey] | None = None
) -> ec.EllipticCurvePrivateKey:
    """Write a certificate and, but for the CA, its key; return the key. Without an issuer it signs itself."""
    key, made = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    by, signing = issuer or (subject, key)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder().public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.subject_name(named(subject)).issuer_name(named(by)).not_valid_before(made - timedelta(hours=1))
    builder = builder.not_valid_after(made + timedelta(days=365))
    extension = address if issuer else x509.BasicConstraints(ca=name.endswith("ca"), path_length=None)
    certificate = builder.add_extension(extension, critical=not issuer).sign(signing, hashes.SHA256())
    Path(f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    if not name.endswith("ca"):
        pem, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        Path(f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, pem, plain))
        Path(f"{name}.key").chmod(0o600)
    return key


def named(name: str) -> x509.Name:
    """Return a name of certificates."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


ca = write("tls-ca", "CA of the walk")
write("tls", "127.0.0.1", ("CA of the walk", ca))
write("grid-co", "GRID-CO")
Path("password.txt").write_text(secrets.token_urlsafe(24) + "\n")
