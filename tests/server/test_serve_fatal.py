"""What a bus says when its store fails while it stops: the reason must reach the person who stopped it."""

from gridpost.server.commands import serve

from gridpost.errors import StoreUnavailable


class Stopped:
    """A reactor at its end: it takes calls and makes none."""

    def callFromThread(self, *_):
        """Never made."""


def test_why_the_store_failed_is_known_though_the_reactor_takes_no_more_calls():
    failed: list = []
    serve._fatal(Stopped(), failed, OSError("disk I/O error\nINSERT INTO entry"))
    (why,) = failed
    assert isinstance(why, StoreUnavailable)
    assert why.reason == "the store failed and the bus stopped: disk I/O error"
