"""XML Encryption for several readers, held against libxmlsec1 in both directions, and attacked."""

import base64
import copy
import re

import pytest
import xmlsec
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from encrypting import (
    CUSTOMER,
    EPHEMERAL,
    SECRETS,
    STRANGER,
    UTILITY,
    X,
    opened_by_xmlsec,
    pem_of,
    public_pem_of,
    reader,
    sealed_by_xmlsec,
)
from lxml import etree

from gridpost import encryption, ns
from gridpost.errors import ConfigInvalid, NotDecryptable, SchemaInvalid

CONTENT = '<part xmlns="urn:x">grün</part>'.encode()
BOTH = [reader(UTILITY, "utility & co"), reader(CUSTOMER)]


def sealed(readers=BOTH, secrets=SECRETS, content=CONTENT):
    return etree.fromstring(encryption.encrypt(content, readers, secrets))


def opens(element, key):
    return encryption.decrypt(encryption.read(element), key)


def changed(path, change):
    """The sealed element with the octets of one CipherValue changed."""
    element = sealed()
    value = element.xpath(path, namespaces={"x": ns.XENC, "d": ns.DS, "e": ns.DS11})[0]
    value.text = base64.b64encode(change(base64.b64decode(value.text))).decode()
    return element


# --- with libxmlsec1 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [UTILITY, CUSTOMER], ids=["p-256", "rsa"])
@pytest.mark.parametrize("order", [1, -1])
def test_libxmlsec1_opens_ours_whatever_its_place_among_the_readers(key, order):
    data = sealed(BOTH[::order])
    document = etree.Element("document")
    document.append(data)
    found = opened_by_xmlsec(data, key)
    assert etree.tostring(found, encoding="utf-8", with_tail=False) == CONTENT
    assert list(document) == [found]


def test_libxmlsec1_does_not_open_ours_for_a_stranger():
    data = sealed()
    etree.Element("document").append(data)
    with pytest.raises(xmlsec.Error, match="failed to decrypt"):
        opened_by_xmlsec(data, STRANGER)


@pytest.mark.parametrize("readers", [[UTILITY], [CUSTOMER], [UTILITY, CUSTOMER]], ids=["p-256", "rsa", "both"])
def test_we_open_what_libxmlsec1_sealed(readers):
    element = sealed_by_xmlsec(CONTENT, readers)
    assert [opens(element, key) for key in readers] == [CONTENT] * len(readers)


# --- what is written -------------------------------------------------------------------------------------------------


def test_each_reader_reads_the_same_and_a_stranger_nothing():
    element = sealed()
    assert [opens(element, key) for key in (UTILITY, CUSTOMER)] == [CONTENT, CONTENT]
    with pytest.raises(NotDecryptable):
        opens(element, STRANGER)
    encrypted = encryption.read(element)
    assert [encrypted.is_for(key.public_key()) for key in (UTILITY, CUSTOMER, STRANGER)] == [True, True, False]


def test_what_is_written_is_its_own_canonical_form():
    written = encryption.encrypt(CONTENT, BOTH, SECRETS).encode()
    assert etree.tostring(etree.fromstring(written), method="c14n", exclusive=True) == written


def test_given_secrets_give_the_same_octets_for_readers_with_p_256_keys():
    one, two = (encryption.encrypt(CONTENT, BOTH[:1], SECRETS) for _ in range(2))
    assert one == two
    assert "utility &amp; co" in one


def test_a_key_is_named_by_the_digest_of_its_public_key():
    # As `openssl pkey -in key.pem -pubout -outform DER | sha256sum` says.
    expected = "sha256:2a22a91fd74ac9b9f4b2c1fb92f110969b008d8a304e13442cacfa1599d21069"
    assert encryption.key_name(UTILITY.public_key()) == expected


@pytest.mark.parametrize(
    ("readers", "reason"),
    [
        ([], "0 readers; a part has 1 to 16"),
        ([reader(ec.derive_private_key(n, ec.SECP256R1())) for n in range(1, 18)], "17 readers; a part has 1 to 16"),
        ([BOTH[0], BOTH[0]], "one key is given for two readers of a part"),
    ],
)
def test_readers_that_cannot_be(readers, reason):
    with pytest.raises(ConfigInvalid, match=reason):
        encryption.encrypt(CONTENT, readers, SECRETS)


def test_keys_are_read_from_pem():
    assert encryption.reader("utility", public_pem_of(UTILITY)) == reader(UTILITY, "utility")
    assert encryption.private_key(pem_of(CUSTOMER)).private_numbers() == CUSTOMER.private_numbers()


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 1024)], ids=["p-384", "rsa-1024"]
)
def test_keys_of_another_kind_are_refused(key):
    for load, pem in (
        (encryption.private_key, pem_of(key)),
        (lambda pem: encryption.reader("", pem), public_pem_of(key)),
    ):
        with pytest.raises(ConfigInvalid, match="neither RSA of 2048 to 8192 bits nor P-256"):
            load(pem)
    for load in (encryption.private_key, lambda pem: encryption.reader("", pem)):
        with pytest.raises(ConfigInvalid, match="in PEM"):
            load(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


# --- attacks ---------------------------------------------------------------------------------------------------------

FOR_UTILITY, FOR_CUSTOMER = ".//x:EncryptedKey[1]//x:CipherValue", ".//x:EncryptedKey[2]//x:CipherValue"
CIPHER = "x:CipherData/x:CipherValue"


def _other_point(octets):
    """A point that is on the curve, and is not the originator's."""
    return base64.b64decode(sealed(BOTH, SECRETS._replace(ephemeral=STRANGER)).xpath(POINT, namespaces=DS11)[0].text)


POINT, DS11 = ".//e:PublicKey", {"e": ns.DS11}
TAMPERED = {
    "content": (CIPHER, lambda octets: octets[:20] + bytes([octets[20] ^ 1]) + octets[21:], (UTILITY, CUSTOMER)),
    "nonce": (CIPHER, lambda octets: bytes([octets[0] ^ 1]) + octets[1:], (UTILITY, CUSTOMER)),
    "tag": (CIPHER, lambda octets: octets[:-1] + bytes([octets[-1] ^ 1]), (UTILITY, CUSTOMER)),
    "tag-cut-to-12": (CIPHER, lambda octets: octets[:-4], (UTILITY, CUSTOMER)),
    "content-cut-away": (CIPHER, lambda octets: octets[:12] + octets[-16:], (UTILITY, CUSTOMER)),
    "wrapped-key": (FOR_UTILITY, lambda octets: bytes([octets[0] ^ 1]) + octets[1:], (UTILITY,)),
    "wrapped-key-rsa": (FOR_CUSTOMER, lambda octets: octets[:-1] + bytes([octets[-1] ^ 1]), (CUSTOMER,)),
    "wrapped-key-rsa-cut": (FOR_CUSTOMER, lambda octets: octets[:-1], (CUSTOMER,)),
    "wrapped-key-rsa-of-zeros": (FOR_CUSTOMER, lambda octets: bytes(len(octets)), (CUSTOMER,)),
    "wrapped-key-rsa-larger-than-n": (FOR_CUSTOMER, lambda octets: b"\xff" * len(octets), (CUSTOMER,)),
    "point-of-another": (POINT, _other_point, (UTILITY,)),
    "point-off-the-curve": (POINT, lambda octets: octets[:-1] + bytes([octets[-1] ^ 1]), (UTILITY,)),
    "point-at-infinity": (POINT, lambda octets: b"\4" + bytes(64), (UTILITY,)),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_whatever_was_changed_there_is_one_answer(name):
    path, change, keys = TAMPERED[name]
    element = changed(path, change)
    told = set()
    for key in keys:
        with pytest.raises(NotDecryptable) as caught:
            opens(element, key)
        told.add((str(caught.value), caught.value.detail, caught.value.items, caught.value.__cause__))
    assert told == {(str(NotDecryptable()), "", (), None)}


def test_a_key_wrapped_for_another_under_our_name_does_not_open():
    element = sealed([reader(STRANGER), reader(CUSTOMER)])
    for name in element.iter(f"{{{ns.DS}}}KeyName"):
        if name.text == encryption.key_name(STRANGER.public_key()):
            name.text = encryption.key_name(UTILITY.public_key())
    with pytest.raises(NotDecryptable):
        opens(element, UTILITY)


def test_a_wrapped_key_of_the_other_method_under_our_name_does_not_open():
    element = sealed()
    ours, theirs = (encryption.key_name(key.public_key()) for key in (UTILITY, CUSTOMER))
    for name in element.iter(f"{{{ns.DS}}}KeyName"):
        name.text = {ours: theirs, theirs: ours}.get(name.text, name.text)
    for key in (UTILITY, CUSTOMER):
        with pytest.raises(NotDecryptable):
            opens(element, key)


def test_a_key_of_128_bits_is_not_taken_for_the_256_that_are_stated():
    element = sealed([reader(CUSTOMER)])
    short, nonce = bytes(16), bytes(12)
    for path, octets in (
        (f".//{X}EncryptedKey//{X}CipherValue", CUSTOMER.public_key().encrypt(short, encryption._OAEP)),
        (f"{X}CipherData/{X}CipherValue", nonce + AESGCM(short).encrypt(nonce, CONTENT, None)),
    ):
        element.find(path).text = base64.b64encode(octets).decode()
    with pytest.raises(NotDecryptable):
        opens(element, CUSTOMER)


def test_the_wrapping_key_is_bound_to_who_sends_and_who_receives():
    element = sealed()
    parameters = element.find(f".//{{{ns.XENC11}}}ConcatKDFParams")
    for name in ("AlgorithmID", "PartyUInfo", "PartyVInfo"):
        other = copy.deepcopy(element)
        other.find(f".//{{{ns.XENC11}}}ConcatKDFParams").set(name, "00")
        with pytest.raises(NotDecryptable):
            opens(other, UTILITY)
    assert bytes.fromhex(parameters.get("PartyVInfo")[2:]).decode() == encryption.key_name(UTILITY.public_key())
    assert bytes.fromhex(parameters.get("PartyUInfo")[2:]).decode() == encryption.key_name(EPHEMERAL.public_key())


# --- shapes that are refused unopened --------------------------------------------------------------------------------

WRITTEN = encryption.encrypt(CONTENT, BOTH, SECRETS)
AES_128_CBC = "http://www.w3.org/2001/04/xmlenc#aes128-cbc"
KEYS = WRITTEN[WRITTEN.index("<EncryptedKey") : WRITTEN.rindex("</KeyInfo>")]
SHAPES = {
    "another-element": lambda text: text.replace("EncryptedData", "EncryptedKey"),
    "type-content": lambda text: text.replace("#Element", "#Content"),
    "no-type": lambda text: text.replace(f' Type="{ns.XENC}Element"', ""),
    "cbc": lambda text: text.replace(ns.AES256_GCM, AES_128_CBC),
    "aes-128-gcm": lambda text: text.replace("aes256-gcm", "aes128-gcm"),
    "rsa-1-5": lambda text: text.replace(ns.RSA_OAEP, f"{ns.XENC}rsa-1_5"),
    "oaep-with-sha-1": lambda text: text.replace(ns.RSA_OAEP, f"{ns.XENC}rsa-oaep-mgf1p"),
    "mgf-with-sha-1": lambda text: text.replace("mgf1sha256", "mgf1sha1"),
    "no-mgf": lambda text: text.replace(f'<MGF xmlns="{ns.XENC11}" Algorithm="{ns.MGF1_SHA256}"></MGF>', ""),
    "key-wrap-128": lambda text: text.replace("kw-aes256", "kw-aes128"),
    "other-agreement": lambda text: text.replace("ECDH-ES", "dh-es"),
    "other-derivation": lambda text: text.replace("#ConcatKDF", "#pbkdf2"),
    "other-curve": lambda text: text.replace("1.2.840.10045.3.1.7", "1.3.132.0.34"),
    "other-digest-of-the-derivation": lambda text: text.replace(f'"{ns.SHA256}"', f'"{ns.SHA512}"', 1),
    "other-digest-of-oaep": lambda text: f'"{ns.SHA512}"'.join(text.rsplit(f'"{ns.SHA256}"', 1)),
    "wrapped-key-cut": lambda text: re.sub("<CipherValue>[^<]*", "<CipherValue>AAAA", text, count=1),
    "padding-bits": lambda text: text.replace('PartyUInfo="00', 'PartyUInfo="04'),
    "half-an-octet": lambda text: text.replace('PartyUInfo="00', 'PartyUInfo="000'),
    "supplementary-info": lambda text: text.replace("PartyUInfo", "SuppPubInfo"),
    "long-info": lambda text: text.replace('PartyUInfo="00', f'PartyUInfo="00{"00" * 1025}'),
    "no-reader": lambda text: text.replace(KEYS, ""),
    "one-reader-twice": lambda text: text.replace(KEYS, KEYS + KEYS),
    "key-in-the-clear": lambda text: text.replace(KEYS, "<KeyName>known</KeyName>"),
    "cipher-reference": lambda text: text.replace("CipherValue", "CipherReference"),
    "no-base64": lambda text: text.replace("<CipherValue>", "<CipherValue>!"),
    "empty": lambda text: (
        text[: text.rindex("<CipherValue>")] + "<CipherValue></CipherValue></CipherData></EncryptedData>"
    ),
    "shorter-than-a-tag": lambda text: (
        text[: text.rindex("<CipherValue>")] + f"<CipherValue>{'A' * 36}</CipherValue></CipherData></EncryptedData>"
    ),
    "two-key-names": lambda text: text.replace("<KeyName>", "<KeyName>x</KeyName><KeyName>"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_another_shape_or_algorithm_is_refused_before_a_key_is_used(name):
    text = SHAPES[name](WRITTEN)
    assert text != WRITTEN
    with pytest.raises(SchemaInvalid) as caught:
        encryption.read(etree.fromstring(text))
    assert caught.value.items[0].path.startswith("/xenc:Encrypted")


@pytest.mark.parametrize(("count", "taken"), [(16, True), (17, False)])
def test_more_than_sixteen_readers_are_refused_unread(count, taken):
    one = encryption.encrypt(CONTENT, BOTH[:1], SECRETS)
    key = one[one.index("<EncryptedKey") : one.rindex("</KeyInfo>")]
    name = encryption.key_name(UTILITY.public_key())
    many = etree.fromstring(one.replace(key, "".join(key.replace(name, f"reader {n}") for n in range(count))))
    if taken:
        assert len(encryption.read(many).keys) == 16
    else:
        with pytest.raises(SchemaInvalid):
            encryption.read(many)
