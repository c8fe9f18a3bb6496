"""examples/office: what its README says works, from an empty folder to the relay an office opened."""

from office_walk import BLOCKS, READY, walk

from gridpost.controls import OUTCOME_EVENT


def test_a_newcomers_walk_ends_with_an_open_relay_and_a_signed_outcome(tmp_path):
    with walk(tmp_path, php=False) as made:
        made.running["gridpost-ied simulate "].until("relay of SIM00001 opened")
        said = "\n".join(made.said.values())
        assert "96 quarter hours, 20.158 kWh" in said
        assert ": waiting" in said
        assert "mail.xml: valid" in said
        assert "outcome.jsonl: proof, holds" in said
        assert "METER-7 at 20" in said
        assert OUTCOME_EVENT in (made.folder / "mail.xml").read_text()


def test_every_block_is_typed_by_a_test_and_those_left_out_here_are_phps():
    assert len(BLOCKS) == 11
    assert [block for block in BLOCKS if block.startswith("php ")] == ["php ../examples/office/read_day.php\n"]
    assert [sum(block.startswith(words) for block in BLOCKS) for words in READY] == [1, 1, 1]
