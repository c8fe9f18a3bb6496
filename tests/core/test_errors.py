"""What a command prints of an error."""

from __future__ import annotations

from gridpost.errors import FileInvalid, Item, explained

ADVICE = "  The file is not a valid file of its format; the place and the reason are named."


def test_one_finding_that_the_reason_names_is_not_said_twice():
    error = FileInvalid("line 7: bad date", items=[Item("file-invalid", "bad date", "line 7")])
    assert explained(error).splitlines() == ["error[file-invalid]: line 7: bad date", ADVICE]


def test_findings_are_listed_where_the_reason_does_not_name_them():
    one = FileInvalid("1 finding", items=[Item("bad-value", "no number", "line 7")])
    assert explained(one).splitlines() == ["error[file-invalid]: 1 finding", "  line 7: no number [bad-value]", ADVICE]
    place = FileInvalid("no number", items=[Item("bad-value", "no number", "line 7")])
    assert explained(place).splitlines()[1] == "  line 7: no number [bad-value]"
    two = FileInvalid("a, b", items=[Item("bad-value", "a"), Item("bad-value", "b")])
    assert explained(two).splitlines()[1:3] == ["  a [bad-value]", "  b [bad-value]"]
