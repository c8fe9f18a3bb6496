"""NTP: the arithmetic of RFC 5905, a server over a real socket, and what an unsigned answer may move."""

import asyncio
import socket
import threading
import time

import pytest
from gridpost.ied_soap_client import timekeeping
from gridpost.ied_soap_client.timekeeping import Offset

from gridpost.errors import BusUnreachable

EPOCH = 2_208_988_800  # 1900 to 1970, RFC 5905 figure 4
QUESTION = b"\x23" + bytes(39) + b"NONCE123"


def stamp(ms: int) -> bytes:
    seconds, rest = divmod(ms, 1000)
    return ((seconds + EPOCH) % (1 << 32)).to_bytes(4) + (rest * (1 << 32) // 1000 + 1).to_bytes(4)


def answer(received_ms: int, sent_ms: int, nonce: bytes = b"NONCE123", head: bytes = b"\x24\x02") -> bytes:
    return head + bytes(22) + nonce + stamp(received_ms) + stamp(sent_ms)


@pytest.mark.parametrize(
    ("t1", "t2", "t3", "t4", "offset", "within"),
    [
        (1000, 1050, 1060, 1110, 0, 51),  # 50 ms each way, 10 ms in the server
        (1000, 6050, 6060, 1110, 5000, 51),
        (1000, 1100, 1100, 1100, 50, 51),  # all of the way out: wrong by half of it, as the bound says
    ],
)
def test_offset_and_bound_by_the_four_moments(t1, t2, t3, t4, offset, within):
    base = 1_772_323_200_000
    found = timekeeping.offset_of(answer(base + t2, base + t3), base + t1, base + t4)
    assert found == (offset, within)


def test_time_goes_on_in_2036():
    late = 2_100_000_000_000
    assert timekeeping.offset_of(answer(late, late), late, late) == (0, 1)


@pytest.mark.parametrize(
    "data",
    [
        answer(1, 2, nonce=b"ANOTHER1"),
        answer(1, 2, head=b"\xe4\x02"),  # leap indicator 3: not synchronised
        answer(1, 2, head=b"\x23\x02"),  # a client's
        answer(1, 2, head=b"\x24\x00"),  # kiss of death
        answer(1, 2, head=b"\x24\x10"),  # stratum 16
        answer(1, 2)[:47],
    ],
)
def test_what_is_no_answer_to_this_question_is_passed_over(data):
    assert timekeeping.is_answer(answer(1, 2), QUESTION)
    assert not timekeeping.is_answer(data, QUESTION)


def test_a_server_is_asked_over_a_socket_and_a_lie_before_its_answer_does_not_count():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(60)

        def serve():
            question, peer = server.recvfrom(100)
            now = time.time_ns() // 1_000_000 + 7000
            server.sendto(answer(now - 90_000, now - 90_000, nonce=b"GUESSED!"), peer)
            server.sendto(answer(now, now, nonce=question[40:48]), peer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        where = f"127.0.0.1:{server.getsockname()[1]}"
        found = asyncio.run(timekeeping.ask(where, lambda: time.time_ns() // 1_000_000))
        thread.join(30)
    assert abs(found.ms - 7000) <= found.within_ms


def test_nobody_there_is_no_answer():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(BusUnreachable, match="no NTP answer"):
        asyncio.run(timekeeping.ask(f"127.0.0.1:{port}", lambda: 0))


def test_an_unsigned_answer_refines_what_the_bus_sealed_and_moves_nothing_else():
    sealed = Offset(1000, 400)
    assert timekeeping.agreed(sealed, None) == sealed
    assert timekeeping.agreed(sealed, Offset(1200, 20)) == Offset(1200, 20)
    assert timekeeping.agreed(sealed, Offset(1200, 900)) == sealed
    assert timekeeping.agreed(sealed, Offset(3_600_000, 20)) == sealed
    edge = 1000 + 400 + 20 + timekeeping.TOLERANCE_MS
    assert timekeeping.agreed(sealed, Offset(edge, 20)) == Offset(edge, 20)
    assert timekeeping.agreed(sealed, Offset(edge + 1, 20)) == sealed
