"""Who this device is: its key, its certificate, the CA it believes; files that `gridpost-ied init` makes.

In: a configuration, or a folder and an enrolment code. Out: a signer and a trusted CA; or, once, key and certification
request on disk before anything is sent, so that an answer lost on the way locks nobody out (decision 14).
"""

from __future__ import annotations

import base64
import contextlib
import os
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gridpost import enrolment, wssecurity
from gridpost.errors import AnswerUntrusted, BusUnreachable, ConfigInvalid, EnrolmentRefused, FileUnwritable, NotFound
from gridpost.wssecurity import KeySigner

from . import config as settings
from . import sealing
from .push import Parties
from .sealing import PLAIN, Form
from .transport import HttpAnswer, Transport

EST = "/.well-known/est"
_PEM, _DER = serialization.Encoding.PEM, serialization.Encoding.DER


def parties(config: settings.Config) -> Parties:
    """Load what a message needs: source, signer, CA, what the device says of itself.

    A next key whose certificate has come takes its place first; `run` may do so while another command loads.

    Raises:
        NotFound: a file is missing: the device is not enrolled.
        ConfigInvalid: a file is not what it should be.
    """
    settle(config)
    try:
        return _parties(config)
    except ConfigInvalid:
        settle(config)  # between our reading of the key and of the certificate, another process put the next ones there
        return _parties(config)


def _parties(config: settings.Config) -> Parties:
    key, certificate, ca = (_read(config.path(getattr(config.identity, name))) for name in ("key", "certificate", "ca"))
    try:
        trusted = x509.load_pem_x509_certificate(ca).public_bytes(_DER)
    except wssecurity.UNREADABLE as error:
        raise ConfigInvalid(f"{config.identity.ca} is no certificate: {error}") from None
    try:
        signer = KeySigner.from_pem(key, certificate)
    except wssecurity.UNREADABLE as error:
        raise ConfigInvalid(f"{config.identity.certificate} or its key is not readable: {error}") from None
    return Parties(config.identity.serial, signer, trusted, tuple(config.identity.properties.items()), _form(config))


def _form(config: settings.Config) -> Form:
    """How readings go: encrypted where readers are named, each channel then for one at least."""
    if not config.reader:
        return PLAIN
    readers = [sealing.named(config.folder, one.key, one.kinds) for one in config.reader]
    has_table = config.path(config.channels.file).exists()
    return sealing.form_for(readers, settings.channels(config) if has_table else ())


def after(file: Path) -> Path:
    """Return where the next key or certificate waits for its turn."""
    return file.with_name(f"{file.name}.next")


def settle(config: settings.Config) -> None:
    """Let a next key and its certificate take the place of the present ones, once both are there.

    The certificate is the last to come and the last to go, so a kill at any line is made good by the next call. The
    present pair stays beside as ``.old``: a bus put back from an old backup does not know the next one.
    """
    key, certificate = config.path(config.identity.key), config.path(config.identity.certificate)
    if not after(certificate).exists():
        return
    if after(key).exists():
        for file in (key, certificate):
            write(file.with_name(f"{file.name}.old"), _read(file))
        _replace(key)
    request_of(key).unlink(missing_ok=True)  # before the certificate goes, which is what brings us here again
    _replace(certificate)


def _replace(file: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # another process did it
        os.replace(after(file), file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def request_of(key: Path) -> Path:
    """Return where the certification request for the next key is kept."""
    return key.with_name(f"{key.name}.next.csr")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        raise NotFound(f"there is no {file}; enrol this device with 'gridpost-ied init'") from None


async def enrol(folder: Path, code: enrolment.Code, transport: Transport) -> None:
    """Enrol at a bus; run again after any failure it goes on with the same key and the same request.

    Raises:
        AnswerUntrusted: the bus shows another CA than the code names, or no usable answer.
        EnrolmentRefused: the bus refuses the code.
        BusUnreachable: no answer, or one that says later.
        FileUnwritable: the folder.
    """
    request = saved_request(folder / "ied.key", folder / "ied.csr", code.serial)
    ca = await _trusted_ca(code, transport)
    headers = {
        "Content-Type": "application/pkcs10",
        "Content-Transfer-Encoding": "base64",
        enrolment.HEADER: enrolment.proof_header(code.serial, code.secret, request),
    }
    answer = await transport.post(f"{EST}/simpleenroll", base64.encodebytes(request), headers)
    _accepted(answer, "enrolment")
    certificate = own(enrolment.certificates(answer.content), request, ca)
    write(folder / "ca.pem", ca.public_bytes(_PEM))
    write(folder / "ied.pem", certificate.public_bytes(_PEM))


def saved_request(key_file: Path, request_file: Path, serial: str) -> bytes:
    """Return a certification request (DER) of this device, made and saved once, its key before it.

    Raises:
        ConfigInvalid: the files are another device's.
        FileUnwritable: the folder.
    """
    if not key_file.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        plain = serialization.NoEncryption()
        write(key_file, key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, plain))
    loaded = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    kept = x509.load_pem_x509_csr(request_file.read_bytes()) if request_file.exists() else None
    if kept is None or kept.public_key() != loaded.public_key():
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, serial)])
        built = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(loaded, hashes.SHA256())
        write(request_file, built.public_bytes(_PEM))
    request = x509.load_pem_x509_csr(request_file.read_bytes())
    named = str(request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    if named != serial:
        place = key_file.parent
        raise ConfigInvalid(f"{place} already holds the identity of {named}; use another folder for {serial}")
    return request.public_bytes(_DER)


async def _trusted_ca(code: enrolment.Code, transport: Transport) -> x509.Certificate:
    answer = await transport.get(f"{EST}/cacerts")
    _accepted(answer, "the CA certificate")
    for certificate in enrolment.certificates(answer.content):
        if enrolment.trusts(code, certificate):
            return x509.load_der_x509_certificate(certificate)
    raise AnswerUntrusted(
        f"{transport.url} shows another CA than the code names: wrong address, a mistyped code, or somebody between"
    )


def _accepted(answer: HttpAnswer, what: str) -> None:
    if answer.status == EnrolmentRefused.http_status:
        raise EnrolmentRefused("the bus refuses this code: unknown, or used by another key; ask for a new one")
    if answer.status >= 500:
        raise BusUnreachable(
            f"the bus cannot answer the request for {what} now (HTTP {answer.status}); init again later"
        )
    if answer.status != 200:
        raise AnswerUntrusted(f"the bus answers the request for {what} with HTTP {answer.status}")


def own(certificates: tuple[bytes, ...], request: bytes, ca: x509.Certificate) -> x509.Certificate:
    """Return the certificate of the key that a request is for, issued by the trusted CA.

    Raises:
        AnswerUntrusted: there is none, or another CA issued it.
    """
    key = x509.load_der_x509_csr(request).public_key()
    for raw in certificates:
        certificate = x509.load_der_x509_certificate(raw)
        if _key_of(certificate) == key:
            try:
                certificate.verify_directly_issued_by(ca)
            except (*wssecurity.UNREADABLE, InvalidSignature) as error:
                raise AnswerUntrusted("the certificate for this device is not the CA's", detail=str(error)) from None
            return certificate
    raise AnswerUntrusted("the enrolment answer holds no certificate for this device's key")


def _key_of(certificate: x509.Certificate) -> object:
    try:
        return certificate.public_key()
    except wssecurity.UNREADABLE:
        return None  # of a kind that we do not make, so not ours


def make_folder(folder: Path) -> None:
    """Make a folder for the owner only; one that exists stays as it is.

    Raises:
        FileUnwritable: it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise FileUnwritable(f"{folder} cannot be made: {error.strerror}") from None


def write(file: Path, content: bytes) -> None:
    """Write a file whole or not at all, for the owner only, and on the disk when this returns.

    Raises:
        FileUnwritable: its folder does not exist, or it cannot be written there.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise FileUnwritable(f"{file} cannot be written: {error.strerror}") from None
