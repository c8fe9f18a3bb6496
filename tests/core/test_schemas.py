"""The schemas are whole, whatever other threads parse while they are compiled."""

import threading

from lxml import etree

from gridpost import schemas, testing

WAIT_S = 60


class SlowFile:
    """A document whose parse begins, and ends when it is told to."""

    def __init__(self):
        self.begun, self.go = threading.Event(), threading.Event()
        self._parts = [b"", b"<a/>"]

    def read(self, _size):
        self.begun.set()
        assert self.go.wait(WAIT_S)
        return self._parts.pop()


def compiled_anew():
    """Load in a thread that has none yet; return the schema, or the error."""
    found = []

    def load():
        try:
            found.append(schemas.load())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    thread.join(WAIT_S)
    return found[0]


def test_a_parse_that_ends_meanwhile_does_not_cost_a_namespace(monkeypatch):
    """lxml's way to our files is one for the process; a parse that ends puts back what it found when it began."""
    slow = SlowFile()
    parsing = threading.Thread(target=etree.parse, args=(slow,))
    parsing.start()
    assert slow.begun.wait(WAIT_S)
    resolve = schemas._PackageFiles.resolve

    def resolve_when_the_other_is_done(self, *arguments):
        slow.go.set()
        parsing.join(WAIT_S)
        return resolve(self, *arguments)

    monkeypatch.setattr(schemas._PackageFiles, "resolve", resolve_when_the_other_is_done)
    schema = compiled_anew()
    assert slow.go.is_set()
    block = testing.block(testing.channel(), 1_767_225_600, ["1.5"])
    raw = testing.sealed(testing.readings_message("IED-1", "m", [block]), testing.ThrowawayCA().issue_device("IED-1"))
    body = etree.fromstring(raw)[-1]
    assert schema.validate(body[0]), schema.error_log
