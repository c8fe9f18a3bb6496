"""Where exactly `wssecurity` draws its lines: kinds and sizes of keys, lengths, and the price of a PrefixList."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from forging import BODY, TIME, TOKEN, Setting, draft, with_prefixes

from gridpost import exchange, ns, testing, wssecurity
from gridpost.errors import ConfigInvalid, SignatureInvalid

CA = testing.ThrowawayCA()
NOW = testing.NOW_UTC_MS
SIGNER = CA.issue_device("IED1")
SETTING = Setting(SIGNER, "IED1", testing.channel(1), NOW, SIGNER, "IED1", testing.channel(1))


def rsa_key(bits: int, exponent: int = 65537) -> rsa.RSAPublicKey:
    """Of a size; not a product of two primes, which nobody here asks."""
    return rsa.RSAPublicNumbers(exponent, (1 << (bits - 1)) + 1).public_key()


def verify(raw: bytes) -> wssecurity.Verified:
    return wssecurity.verify(exchange.read(raw), SIGNER.certificate)


def refusal(raw: bytes) -> str:
    with pytest.raises(SignatureInvalid) as refused:
        verify(raw)
    return refused.value.detail


@pytest.mark.parametrize(("bits", "exponent"), [(2048, 65537), (3072, 65537), (8192, 65537), (2048, 65539)])
def test_rsa_keys_of_2048_to_8192_bits_are_taken(bits, exponent):
    """NIST SP 800-57: 2048 bits at least; FIPS 186-5: an exponent above 2^16. Above 8192 it costs too much."""
    key = rsa_key(bits, exponent)
    assert wssecurity.accepted(key) is key


@pytest.mark.parametrize(("bits", "exponent"), [(1024, 65537), (2047, 65537), (8193, 65537), (2048, 3), (2048, 65535)])
def test_other_rsa_keys_are_not(bits, exponent):
    with pytest.raises(SignatureInvalid) as refused:
        wssecurity.accepted(rsa_key(bits, exponent))
    assert refused.value.detail == "RSA key too weak"


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_p_256_and_p_384_are_taken(curve):
    key = ec.generate_private_key(curve).public_key()
    assert wssecurity.accepted(key) is key


@pytest.mark.parametrize("curve", [ec.SECP256K1(), ec.SECP521R1(), ec.BrainpoolP256R1()])
def test_other_curves_are_not(curve):
    with pytest.raises(SignatureInvalid) as refused:
        wssecurity.accepted(ec.generate_private_key(curve).public_key())
    assert refused.value.detail == "curve"


def test_a_key_of_another_kind_is_no_key():
    key = ed25519.Ed25519PrivateKey.generate()
    with pytest.raises(SignatureInvalid) as refused:
        wssecurity.accepted(key.public_key())
    assert refused.value.detail == "key is neither RSA nor EC"


def test_a_signer_of_another_kind_is_not_loaded():
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with pytest.raises(ConfigInvalid, match="neither RSA nor EC"):
        wssecurity.KeySigner.from_pem(pem, CA.x509.public_bytes(serialization.Encoding.PEM))


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"),
        (ec.generate_private_key(ec.SECP384R1()), "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"),
        (rsa.generate_private_key(65537, 2048), "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"),
    ],
)
def test_a_key_signs_by_the_hash_of_its_strength(key, algorithm):
    """RFC 6931; a hash as long as the curve's order (SP 800-57 part 1, 5.6.1)."""
    assert wssecurity.KeySigner(key, b"").algorithm == algorithm


# --- lengths ---------------------------------------------------------------------------------------------------------


def with_id(name: str) -> bytes:
    """A message whose Body is called `name`."""
    body = f'<soap:Body wsu:Id="{name}">{{payload}}</soap:Body>'
    return draft(SETTING, body=body, refs=(BODY._replace(uri=f"#{name}", target=name), TIME)).sealed()


def test_a_uri_may_have_512_characters():
    assert verify(with_id("b" * 511)).references[0].uri == "#" + "b" * 511
    assert refusal(with_id("b" * 512)) == "Reference's length"


def test_a_digest_value_may_have_512_characters():
    """White space is allowed in base64 and counts."""

    def padded(length: int) -> bytes:
        raw = draft(SETTING).sealed()
        value = verify(raw).references[0].digest_value
        return raw.replace(value.encode(), value.encode().ljust(length))

    # SignedInfo is changed, so the signature fails; the length is judged before it.
    assert refusal(padded(512)) == "signature value"
    assert refusal(padded(513)) == "Reference's length"


def test_a_prefix_list_may_have_512_characters():
    assert verify(draft(SETTING, refs=(with_prefixes(BODY, "p" * 512), TIME)).sealed()).references[0].prefix_list
    assert refusal(draft(SETTING, refs=(with_prefixes(BODY, "p" * 513), TIME)).sealed()) == "PrefixList"


def test_a_prefix_list_may_have_32_prefixes():
    names = [f"p{number}" for number in range(33)]
    assert verify(draft(SETTING, refs=(with_prefixes(BODY, *names[:32]), TIME)).sealed())
    assert refusal(draft(SETTING, refs=(with_prefixes(BODY, *names), TIME)).sealed()) == "PrefixList"


def test_prefixes_are_looked_up_a_million_times_at_most():
    """Twenty prefixes at 50,000 "<", wherever they stand in the message."""
    refs = (with_prefixes(BODY, *(f"p{number}" for number in range(20))), TIME)

    def of(less_than: int) -> bytes:
        frame = draft(SETTING, "<a></a>", refs=refs).sealed().count(b"<")
        raw = draft(SETTING, f"<a>{'<b/>' * (less_than - frame)}</a>", refs=refs).sealed()
        assert raw.count(b"<") == less_than
        return raw

    assert verify(of(50_000)).references[0].prefix_list.startswith("p0 p1 ")
    assert refusal(of(50_001)) == "PrefixList of so large a message"


# --- what is missing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "detail"),
    [
        ('<ds:SignatureMethod Algorithm="{method}">', "<ds:SignatureMethod>", "algorithm does not fit an EC key"),
        (f'<ds:DigestMethod Algorithm="{ns.SHA256}"/>', "<ds:DigestMethod/>", "digest algorithm"),
        ('<ds:Reference URI="#body">', "<ds:Reference>", "reference to something else, or twice"),
        (
            f'<ec:InclusiveNamespaces xmlns:ec="{ns.EXC_C14N}" PrefixList="p"/>',
            f'<ec:InclusiveNamespaces xmlns:ec="{ns.EXC_C14N}"/>',
            "InclusiveNamespaces",
        ),
    ],
)
def test_an_attribute_left_out_is_refused(old, new, detail):
    old = old.replace("{method}", SIGNER.algorithm)

    def leave_out(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    refs = (with_prefixes(BODY, "p"), TIME)
    assert refusal(draft(SETTING, refs=refs, rewrite=leave_out).sealed()) == detail


def test_a_created_without_text_is_no_time():
    assert refusal(draft(SETTING, created=" ").sealed()) == "Timestamp is no time with a zone"
    empty = '<wsu:Timestamp wsu:Id="time"><wsu:Created/></wsu:Timestamp>'
    assert refusal(draft(SETTING, timestamp=empty).sealed()) == "Timestamp is no time with a zone"


def test_a_digest_value_without_text_is_no_digest():
    assert refusal(draft(SETTING, refs=(BODY._replace(value=""), TIME)).sealed()) == "not base64"


def test_a_token_may_be_signed_but_each_part_once():
    assert len(verify(draft(SETTING, refs=(BODY, TIME, TOKEN)).sealed()).references) == 3
    for refs in ((BODY, TIME, TOKEN, TOKEN), (BODY, TIME, TIME), (BODY, BODY, TIME)):
        assert refusal(draft(SETTING, refs=refs).sealed()) in (
            "reference to something else, or twice",
            "6 children of SignedInfo",
        )
