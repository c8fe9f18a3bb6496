"""A UsernameToken as toolkits write it (OASIS Username Token Profile 1.1.1, section 3), its password in clear text."""

import pytest

from gridpost.envelope import DEVICE_LIMITS
from gridpost.errors import EnvelopeShape
from gridpost.unsigned import shape_office

NAME, PASSWORD = "<w:Username>acme</w:Username>", "<w:Password>secret</w:Password>"
NONCE, CREATED = "<w:Nonce>AAAA</w:Nonce>", "<u:Created>2026-03-01T00:00:00Z</u:Created>"
WSS = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity"


def shaped(token: str):
    raw = (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Header>'
        f'<w:Security xmlns:w="{WSS}-secext-1.0.xsd" xmlns:u="{WSS}-utility-1.0.xsd" s:mustUnderstand="1">'
        f'<w:UsernameToken u:Id="t">{token}</w:UsernameToken></w:Security></s:Header>'
        '<s:Body><x xmlns="urn:x"/></s:Body></s:Envelope>'
    )
    return shape_office(raw.encode(), DEVICE_LIMITS)


@pytest.mark.parametrize("beside", ["", NONCE + CREATED, CREATED + NONCE, CREATED, NONCE])
def test_nonce_and_created_may_stand_beside_name_and_password(beside):
    found = shaped(NAME + PASSWORD + beside)
    assert (found.username, found.password) == ("acme", "secret")


def test_created_may_stand_between_them():
    """As npm strong-soap writes it; the profile's schema lets what follows the Username come in any order."""
    found = shaped(NAME + CREATED + PASSWORD)
    assert (found.username, found.password) == ("acme", "secret")


@pytest.mark.parametrize(
    "token",
    [
        NAME, PASSWORD + NAME, NAME + NAME + PASSWORD, NAME + PASSWORD + PASSWORD, NAME + PASSWORD + NAME,
        NAME + PASSWORD + NONCE + NONCE, NAME + PASSWORD + "<w:Salt>x</w:Salt>",
        NAME + PASSWORD + "<u:Created><a/></u:Created>", NAME + "<w:Password>a<b/>c</w:Password>",
        NAME + '<w:Password Type="urn:digest">x</w:Password>', "<w:Username/>" + PASSWORD,
    ],
)  # fmt: skip
def test_anything_else_is_refused(token):
    with pytest.raises(EnvelopeShape):
        shaped(token)
