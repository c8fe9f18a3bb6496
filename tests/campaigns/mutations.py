"""Changes of a genuine message: of its bytes, its text, its elements; each is a function of chance and a sample.

`mutated` gives the bytes and the names of what was done. Nothing here knows whether a change matters to the signature:
what must come out of a message that is still taken is the campaign's business.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import random
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from lxml import etree

from gridpost import ns
from gridpost.wssecurity import KeySigner

Chance = random.Random
OfBytes = Callable[[Chance, bytes], bytes]
OfTree = Callable[[Chance, Any], None]

# --- bytes -----------------------------------------------------------------------------------------------------------

_NASTY = (
    b"<",
    b">",
    b"&",
    b'"',
    b"'",
    b"=",
    b"\0",
    b"\r",
    b"\xff",
    b"\xc2\xa0",
    b"\xef\xbb\xbf",
    b" ",
    b"&#13;",
    b"]]>",
)


def _span(chance: Chance, raw: bytes, longest: int) -> tuple[int, int]:
    start = chance.randrange(len(raw))
    return start, min(len(raw), start + chance.randint(1, longest))


def flip(chance: Chance, raw: bytes) -> bytes:
    at = chance.randrange(len(raw))
    return raw[:at] + bytes([raw[at] ^ 1 << chance.randrange(8)]) + raw[at + 1 :]


def insert(chance: Chance, raw: bytes) -> bytes:
    at = chance.randrange(len(raw) + 1)
    return raw[:at] + (chance.choice(_NASTY) if chance.random() < 0.7 else chance.randbytes(3)) + raw[at:]


def delete(chance: Chance, raw: bytes) -> bytes:
    start, end = _span(chance, raw, chance.choice((1, 1, 8, 300)))
    return raw[:start] + raw[end:]


def duplicate(chance: Chance, raw: bytes) -> bytes:
    start, end = _span(chance, raw, chance.choice((1, 8, 300, 4000)))
    return raw[:end] + raw[start:]


def swap(chance: Chance, raw: bytes) -> bytes:
    (a, b), (c, d) = sorted((_span(chance, raw, 40), _span(chance, raw, 40)))
    return raw if b > c else raw[:a] + raw[c:d] + raw[b:c] + raw[a:b] + raw[d:]


def cut(chance: Chance, raw: bytes) -> bytes:
    return raw[: chance.randrange(len(raw))] if chance.random() < 0.5 else raw + raw[: chance.randrange(len(raw))]


BYTES: Sequence[OfBytes] = (flip, flip, insert, delete, duplicate, swap, cut)

# --- text ------------------------------------------------------------------------------------------------------------

_TEXT = re.compile(rb">([^<>]+)<")
_ATTRIBUTE = re.compile(rb"([\w:.-]+)=(\"[^\"<]*\"|'[^'<]*')")
_TAG = re.compile(rb"<[\w:.-]+(?:\s[^<>]*)?>")
_END = re.compile(rb"(?<=[\w\"'])(/?)>")
_ID = re.compile(rb"Id=\"([^\"]*)\"")
_DECLARED = re.compile(rb" xmlns(?::\w+)?=\"[^\"]*\"")
_EMPTY = re.compile(rb"<([\w:.-]+)((?:\s[^<>]*)?)></\1>")
_MARKUP = (
    b"<!--x-->", b"<![CDATA[1]]>", b"<?x y?>", b"<!DOCTYPE a>", b"&x;", b"&#49;", b"&#x31;", b"&amp;", b"<x/>",
    b"\t", b"\n",     b"&#xD;", b"<x xmlns=''/>", b"<x wsu:Id='body'/>", b"\xc2\xa0", b"</x>", b"<x>",
)  # fmt: skip
_NUMBERS = (b"0", b"-1", b"1e3", b"1_0", b"NaN", b"+5", b" 7 ", b"00012.50", b"9" * 19, "٣".encode(), b"1.50", b"")


def _replace(chance: Chance, raw: bytes, pattern: re.Pattern[bytes], make: Callable[[re.Match[bytes]], bytes]) -> bytes:
    places = list(pattern.finditer(raw))
    if not places:
        return raw
    place = chance.choice(places)
    return raw[: place.start()] + make(place) + raw[place.end() :]


def digit(chance: Chance, raw: bytes) -> bytes:
    """Another digit within a text: a value, a time, a digest."""
    at = [found.start(1) + found[1].find(c) for found in _TEXT.finditer(raw) for c in b"0123456789" if c in found[1]]
    if not at:
        return raw
    place = chance.choice(at)
    return raw[:place] + b"%d" % chance.randrange(10) + raw[place + 1 :]


def text(chance: Chance, raw: bytes) -> bytes:
    other = [found[1] for found in _TEXT.finditer(raw)]
    return _replace(chance, raw, _TEXT, lambda _: b">" + chance.choice([*other, *_NUMBERS]) + b"<")


def attribute(chance: Chance, raw: bytes) -> bytes:
    others = [found[2] for found in _ATTRIBUTE.finditer(raw)]
    pick = [*others, b'""', b'"#body"', b'"body"', b'"1"', b'"#xpointer(/)"', b'"' + ns.EXC_C14N.encode() + b'"']
    return _replace(chance, raw, _ATTRIBUTE, lambda found: found[1] + b"=" + chance.choice(pick))


def drop_attribute(chance: Chance, raw: bytes) -> bytes:
    return _replace(chance, raw, _ATTRIBUTE, lambda _: b"")


def exchange_ids(chance: Chance, raw: bytes) -> bytes:
    """Every name of one Id becomes another's, and the other way round."""
    names = list({found[1] for found in _ID.finditer(raw)})
    if len(names) < 2:
        return raw
    one, other = chance.sample(names, 2)
    mark = b"@@@"
    return raw.replace(one, mark).replace(other, one).replace(mark, other)


def markup(chance: Chance, raw: bytes) -> bytes:
    """Markup, a reference or white space somewhere in a text."""
    return _replace(chance, raw, _TEXT, lambda found: _put(chance, found[0]))


def _put(chance: Chance, piece: bytes) -> bytes:
    at = chance.randrange(1, len(piece))
    return piece[:at] + chance.choice(_MARKUP) + piece[at:]


def between(chance: Chance, raw: bytes) -> bytes:
    """White space, markup or text between two tags."""
    places = [found.start() + 1 for found in re.finditer(rb"><", raw)]
    at = chance.choice(places)
    return raw[:at] + chance.choice((b" ", b"\n  ", b"\r\n", b"x", *_MARKUP)) + raw[at:]


def in_tag(chance: Chance, raw: bytes) -> bytes:
    """White space or an attribute more at the end of a tag."""
    more = (b" ", b"\n", b"\t", b' x="1"', b' xmlns="urn:x"', b' xmlns:q="urn:q"', b' Id="body"', b' xml:lang="en"',
            b" x=''", b' xmlns:soap="urn:soap"', b' xsi:nil="1"',
            b' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"')  # fmt: skip
    return _replace(chance, raw, _END, lambda found: chance.choice(more) + found[1] + b">")


def requote(chance: Chance, raw: bytes) -> bytes:
    """Other quotes, and blanks around the equals sign: the same message to XML."""

    def other(found: re.Match[bytes]) -> bytes:
        value = found[2][1:-1]
        quote = b"'" if found[2][:1] == b'"' else b'"'
        return found[0] if quote in value else found[1] + chance.choice((b"=", b" = ", b"=\n")) + quote + value + quote

    return _ATTRIBUTE.sub(other, raw) if chance.random() < 0.3 else _replace(chance, raw, _ATTRIBUTE, other)


def reorder(chance: Chance, raw: bytes) -> bytes:
    """The attributes of one tag in another order."""

    def shuffled(found: re.Match[bytes]) -> bytes:
        parts = [one[0] for one in _ATTRIBUTE.finditer(found[0])]
        chance.shuffle(parts)
        name = re.match(rb"<[\w:.-]+", found[0])
        assert name is not None
        return b" ".join([name[0], *parts]) + (b"/>" if found[0].endswith(b"/>") else b">")

    return _replace(chance, raw, _TAG, shuffled)


def reference(chance: Chance, raw: bytes) -> bytes:
    """One character of a text as a character reference: the same message to XML."""

    def spelt(found: re.Match[bytes]) -> bytes:
        letters = found[1].decode("utf-8", "replace")
        at = chance.randrange(len(letters))
        if "&" in letters:
            return found[0]
        form = chance.choice(("&#{};", "&#x{:x};", "&#0{};"))
        return f">{letters[:at]}{form.format(ord(letters[at]))}{letters[at + 1 :]}<".encode()

    return _replace(chance, raw, _TEXT, spelt)


def collapse(chance: Chance, raw: bytes) -> bytes:
    """``<a></a>`` as ``<a/>``, one or all."""
    return _EMPTY.sub(rb"<\1\2/>", raw, count=chance.choice((0, 1)))


def lift(chance: Chance, raw: bytes) -> bytes:
    """A namespace declaration removed, or moved up to the root."""
    found = list(_DECLARED.finditer(raw))
    one = chance.choice(found)
    rest = raw[: one.start()] + raw[one.end() :]
    return (
        rest if chance.random() < 0.3 else re.sub(rb"^([^<]*<[\w:.-]+)", lambda root: root[1] + one[0], rest, count=1)
    )


def rebind(chance: Chance, raw: bytes) -> bytes:
    """A prefix bound to another namespace of the message."""
    names = [found[0].partition(b"=")[2] for found in _DECLARED.finditer(raw)]
    return _replace(chance, raw, _DECLARED, lambda found: found[0].partition(b"=")[0] + b"=" + chance.choice(names))


def recode(chance: Chance, raw: bytes) -> bytes:
    """Another encoding, declaration or line end."""
    forms: Sequence[Callable[[], bytes]] = (
        lambda: b"\xef\xbb\xbf" + raw,
        lambda: b'<?xml version="1.0" encoding="utf-8"?>' + raw,
        lambda: b"<?xml version='1.0' encoding='latin-1'?>" + raw,
        lambda: b'<?xml version="1.1"?>' + raw,
        lambda: raw.decode("utf-8", "replace").encode("utf-16"),
        lambda: raw.decode("utf-8", "replace").encode("utf-16-le"),
        lambda: raw.decode("utf-8", "replace").encode("utf-7"),
        lambda: raw.replace(b"\n", b"\r\n"),
        lambda: raw.replace(b"><", b">\r\n<"),
        lambda: raw.replace(b"><", b">\n<", 3),
        lambda: b" \n" + raw + b"\n",
    )
    return chance.choice(forms)()


_LEAF = re.compile(rb"<([\w:.-]+)(?:\s[^<>]*)?>[^<>]*</\1>")
_SIGNED = (
    re.compile(rb"<soap:Body .*</soap:Body>", re.DOTALL),
    re.compile(rb"<wsu:Timestamp .*</wsu:Timestamp>", re.DOTALL),
)
_DIGEST = rb"(<ds:Reference URI=\"#%s\".*?<ds:DigestValue>)[^<]*"


def leaves(chance: Chance, raw: bytes) -> bytes:
    """Two elements without children changed places, or one put before the other, or one gone; all else as it was."""
    found = list(_LEAF.finditer(raw))
    one, other = sorted(chance.sample(found, 2), key=re.Match.start)
    parts = [raw[: one.start()], one[0], raw[one.end() : other.start()], other[0], raw[other.end() :]]
    order = chance.choice(((0, 3, 2, 1, 4), (0, 3, 1, 2, 4), (0, 1, 1, 2, 3, 4), (0, 2, 3, 4), (0, 2, 1, 3, 4)))
    return b"".join(parts[index] for index in order)


def in_place(chance: Chance, raw: bytes) -> bytes:
    """Our own layout kept as it is: something else in it, and the digests of Body and Timestamp made right."""
    change = chance.choice((digit, digit, text, attribute, leaves, leaves, in_tag, reference, markup, requote))
    raw = change(chance, raw)
    for pattern in _SIGNED:
        for part in pattern.finditer(raw):
            name = _ID.search(part[0])
            digest = base64.b64encode(hashlib.sha256(part[0]).digest())
            if name:
                place = _DIGEST % re.escape(name[1])
                raw = re.sub(place, lambda found, value=digest: found[1] + value, raw, count=1, flags=re.DOTALL)
    return raw


TEXT: Sequence[OfBytes] = (
    digit, digit, text, attribute, drop_attribute, exchange_ids, markup, between, in_tag, requote, reorder, reference,
    collapse, lift, rebind, recode, leaves, leaves, in_place, in_place, in_place,
)  # fmt: skip

# --- elements --------------------------------------------------------------------------------------------------------

_IDS = (ns.q(ns.WSU, "Id"), "Id", "ID", "id", "{http://www.w3.org/XML/1998/namespace}id")
_PLACES = (
    ns.q(ns.SOAP11, "Header"), ns.q(ns.SOAP11, "Body"), ns.q(ns.SOAP11, "Envelope"), ns.q(ns.WSSE, "Security"),
    ns.q(ns.DS, "Signature"), ns.q(ns.DS, "KeyInfo"), ns.q(ns.DS, "SignedInfo"), ns.q(ns.WSU, "Timestamp"),
)  # fmt: skip
_VALUE = ns.q(ns.METER_READINGS, "value")
_END_OF = ns.q(ns.METER_READINGS, "timeStamp")


def _any(chance: Chance, root: Any) -> Any:
    return chance.choice([one for one in root.iter() if one.getparent() is not None])


def _within(one: Any, other: Any) -> bool:
    return one is other or other in one.iterancestors()


def _put_into(chance: Chance, parent: Any, child: Any) -> None:
    parent.insert(chance.randint(0, len(parent)), child)


def move(chance: Chance, root: Any) -> None:
    one, other = _any(chance, root), _any(chance, root)
    if not _within(other, one):
        _put_into(chance, other, one)


def wrap(chance: Chance, root: Any) -> None:
    one = _any(chance, root)
    parent = one.getparent()
    tag = chance.choice([one.tag, ns.q(ns.DS, "Object"), "{urn:x}wrap", *_PLACES])
    around = etree.Element(tag)
    parent.replace(one, around)
    around.append(one)


def unwrap(chance: Chance, root: Any) -> None:
    one = _any(chance, root)
    parent, at = one.getparent(), one.getparent().index(one)
    parent[at : at + 1] = list(one)


def twice(chance: Chance, root: Any) -> None:
    one = _any(chance, root)
    twin = copy.deepcopy(one)
    if chance.random() < 0.5:
        for name in _IDS:
            if name in twin.attrib:
                twin.set(name, "twin")
    _put_into(chance, chance.choice((one.getparent(), _any(chance, root))), twin)


def remove(chance: Chance, root: Any) -> None:
    one = _any(chance, root)
    one.getparent().remove(one)


def exchange_siblings(chance: Chance, root: Any) -> None:
    parents = [one for one in root.iter() if len(one) > 1]
    parent = chance.choice(parents)
    first, second = chance.sample(range(len(parent)), 2)
    children = list(parent)
    children[first], children[second] = children[second], children[first]
    parent[:] = children


def rename(chance: Chance, root: Any) -> None:
    one, other = _any(chance, root), _any(chance, root)
    name, other_name = etree.QName(one), etree.QName(other)
    one.tag = chance.choice((other.tag, ns.q(other_name.namespace or "urn:x", name.localname), name.localname))


def value(chance: Chance, root: Any) -> None:
    """Another value or another time, nothing else."""
    found = list(root.iter(_VALUE, _END_OF))
    if not found:
        return
    one, other = chance.choice(found), chance.choice(found)
    one.text, other.text = (
        (other.text, one.text) if one.tag == other.tag and one is not other else ("31337", other.text)
    )


def value_and_digest(chance: Chance, root: Any) -> None:
    """Another value, and every digest made right: all an attacker without the key can do."""
    value(chance, root)
    _make_digests_right(root)


def any_and_digest(chance: Chance, root: Any) -> None:
    """Whatever change of elements, and every digest made right."""
    chance.choice((value, remove, twice, exchange_siblings, rename, move))(chance, root)
    _make_digests_right(root)


def wrapped_body(chance: Chance, root: Any) -> None:
    """The classic: the signed part somewhere else, and a false one with another value where it was (XSW)."""
    signed = chance.choice(list(root.iter(ns.q(ns.SOAP11, "Body"), ns.q(ns.WSU, "Timestamp"))))
    false, parent = copy.deepcopy(signed), signed.getparent()
    for one in false.iter(_VALUE):
        one.text = "31337"
    for name in list(false.attrib):
        del false.attrib[name]
    for name in chance.sample(_IDS, chance.randrange(3)):
        false.set(name, chance.choice(("false", signed.get(_IDS[0], "body"))))
    if parent is None:
        return
    parent.replace(signed, false)
    places = [one for one in root.iter() if one.tag in _PLACES and not _within(one, false)]
    _put_into(chance, chance.choice(places), signed)


def two_bodies(chance: Chance, root: Any) -> None:
    """A false Body beside the signed one, before or behind."""
    for body in list(root.iter(ns.q(ns.SOAP11, "Body")))[:1]:
        false = copy.deepcopy(body)
        for one in false.iter(_VALUE):
            one.text = "31337"
        false.set(_IDS[0], chance.choice(("false", body.get(_IDS[0], ""))))
        (body.addprevious if chance.random() < 0.5 else body.addnext)(false)


TREE: Sequence[OfTree] = (
    move, move, wrap, unwrap, twice, twice, remove, exchange_siblings, exchange_siblings, rename, value,
    value_and_digest, value_and_digest, any_and_digest, wrapped_body, wrapped_body, two_bodies,
)  # fmt: skip
_DIGESTS = {ns.SHA256: "sha256", ns.SHA384: "sha384", ns.SHA512: "sha512"}


def _make_digests_right(root: Any) -> None:
    by_id = {one.get(_IDS[0]): one for one in root.iter() if one.get(_IDS[0])}
    for one in root.iter(ns.q(ns.DS, "Reference")):
        part = by_id.get(one.get("URI", "")[1:])
        digest, method = one.find(ns.q(ns.DS, "DigestValue")), one.find(ns.q(ns.DS, "DigestMethod"))
        if part is None or digest is None or method is None:
            continue
        listed = one.find(f".//{ns.q(ns.EXC_C14N, 'InclusiveNamespaces')}")
        prefixes = (listed.get("PrefixList") or "").split() if listed is not None else []
        octets = _canonical(part, prefixes)
        made = hashlib.new(_DIGESTS.get(method.get("Algorithm", ""), "sha256"), octets).digest()
        digest.text = base64.b64encode(made).decode()


def _canonical(part: Any, prefixes: Sequence[str] = ()) -> bytes:
    octets: bytes = etree.tostring(
        part, method="c14n", exclusive=True, inclusive_ns_prefixes=list(prefixes) or None, with_tail=False
    )
    return octets


def resigned(chance: Chance, root: Any, stranger: KeySigner) -> None:
    """A changed message, rightly signed by another key; half of the time with that key's certificate as token."""
    any_and_digest(chance, root)
    token = root.find(f".//{ns.q(ns.WSSE, 'BinarySecurityToken')}")
    if token is not None and chance.random() < 0.5:
        token.text = base64.b64encode(stranger.certificate).decode()
        _make_digests_right(root)
    info, signature = (root.find(f".//{ns.q(ns.DS, name)}") for name in ("SignedInfo", "SignatureValue"))
    if info is None or signature is None:
        return
    for one in info.iter(ns.q(ns.DS, "SignatureMethod")):
        one.set("Algorithm", stranger.algorithm)
    signature.text = base64.b64encode(stranger.sign(_canonical(info))).decode()


def written(chance: Chance, root: Any) -> bytes:
    """A tree as one of the forms XML gives it."""
    forms: Sequence[Mapping[str, Any]] = (
        {}, {}, {}, {"method": "c14n"}, {"xml_declaration": True, "encoding": "utf-8"}, {"encoding": "us-ascii"},
        {"pretty_print": True}, {"encoding": "utf-16"},
    )  # fmt: skip
    octets: bytes = etree.tostring(root, **chance.choice(forms))
    return octets


# --- all of it -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def _parsed(raw: bytes) -> Any:
    return etree.fromstring(raw)


def mutated(chance: Chance, raw: bytes, others: Sequence[bytes], stranger: KeySigner) -> tuple[bytes, str]:
    """Return a message that differs from `raw`, and what was done to it.

    Args:
        chance: all randomness there is.
        raw: a genuine message.
        others: further genuine messages, to splice with.
        stranger: a key the message's sender does not have.
    """
    while True:
        changed, done = _one(chance, raw, others, stranger)
        if changed != raw:
            return changed, done


def _one(chance: Chance, raw: bytes, others: Sequence[bytes], stranger: KeySigner) -> tuple[bytes, str]:
    done, changed = [], raw
    if chance.random() < 0.5:
        changed, name = _of_elements(chance, raw, stranger)
        done.append(name)
    for _ in range(chance.choice((1, 1, 1, 2, 3)) if not done else chance.choice((0, 0, 0, 1))):
        kind = chance.random()
        if kind < 0.02:
            other = chance.choice(others)
            at, name = chance.randrange(len(changed)), "splice"
            changed = changed[:at] + other[chance.randrange(len(other)) :]
        elif changed:
            change = chance.choice(BYTES if kind < 0.4 else TEXT)
            changed, name = _applied(change, chance, changed), change.__name__
        done.append(name)
    return changed, "+".join(done)


def _applied(change: OfBytes, chance: Chance, raw: bytes) -> bytes:
    """A change; what an earlier one left too little of stays as it is."""
    try:
        return change(chance, raw)
    except (IndexError, ValueError):  # nothing to choose from
        return raw


def _of_elements(chance: Chance, raw: bytes, stranger: KeySigner) -> tuple[bytes, str]:
    root = copy.deepcopy(_parsed(raw))
    if chance.random() < 0.05:
        resigned(chance, root, stranger)
        return written(chance, root), "resigned"
    names = []
    for change in chance.choices(TREE, k=chance.choice((1, 1, 1, 2))):
        change(chance, root)
        names.append(change.__name__)
    return written(chance, root), "+".join(names)
