"""RFC 9162 Merkle trees: what makes the log of entries provable to people who do not trust its keeper.

Floor 1, pure: hashes in, hashes out. A tree of `size` leaves is seen through its *complete subtrees*: the one of level
k and number i holds the 2**k leaves from i * 2**k on, so it never changes once it is full and a store can keep it.
The writer holds only a `Frontier`, a frozen value: an aborted transaction leaves the old one standing.

What a leaf's bytes are is none of this file's business (`leaf.py`). SHA-256 throughout; section numbers are RFC 9162's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import NamedTuple

EMPTY_ROOT = sha256(b"").digest()  # section 2.1.1: MTH({}) = HASH()

# (level, number) -> hash of that complete subtree; level 0 is a leaf hash.
Subtree = Callable[[int, int], bytes]


class Node(NamedTuple):
    """A complete subtree: 2**level leaves from number * 2**level on."""

    level: int
    number: int
    hash: bytes


class Frontier(NamedTuple):
    """The complete subtrees that make up a tree, largest (leftmost) first: one a set bit of `size`."""

    size: int = 0
    hashes: tuple[bytes, ...] = ()


def leaf_hash(leaf: bytes) -> bytes:
    """Return HASH(0x00 || leaf), section 2.1.1."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return HASH(0x01 || left || right), section 2.1.1."""
    return sha256(b"\x01" + left + right).digest()


def append(frontier: Frontier, leaf: bytes) -> tuple[Frontier, tuple[Node, ...]]:
    """Return the tree grown by one leaf *hash*, and the subtrees of level 1 and above that this completed."""
    hashes = list(frontier.hashes)
    current, level, number = leaf, 0, frontier.size
    completed = []
    while number & 1:
        current, level, number = node_hash(hashes.pop(), current), level + 1, number >> 1
        completed.append(Node(level, number, current))
    return Frontier(frontier.size + 1, (*hashes, current)), tuple(completed)


def root(frontier: Frontier) -> bytes:
    """Return MTH of the tree; `EMPTY_ROOT` for no leaves."""
    if not frontier.hashes:
        return EMPTY_ROOT
    *rest, current = frontier.hashes
    for left in reversed(rest):
        current = node_hash(left, current)
    return current


def restore(size: int, subtree: Subtree) -> Frontier:
    """Return the frontier of the first `size` leaves from kept subtrees."""
    hashes, start = [], 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            hashes.append(subtree(level, start >> level))
            start += 1 << level
    return Frontier(size, tuple(hashes))


def inclusion_proof(index: int, size: int, subtree: Subtree) -> tuple[bytes, ...]:
    """Return PATH(index, D[size]), section 2.1.3.1: the hashes that lead from leaf `index` to the root, lowest first.

    Raises:
        IndexError: no leaf `index` in a tree of `size`.
    """
    if not 0 <= index < size:
        raise IndexError(f"no leaf {index} in a tree of {size}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range_root(middle, end, subtree))
            end = middle
        else:
            path.append(_range_root(start, middle, subtree))
            start = middle
    return tuple(reversed(path))


def consistency_proof(first: int, second: int, subtree: Subtree) -> tuple[bytes, ...]:
    """Return PROOF(first, D[second]), section 2.1.4.1: that the tree of `second` leaves extends that of `first`.

    Raises:
        IndexError: not 0 < first <= second.
    """
    if not 0 < first <= second:
        raise IndexError(f"a tree of {second} does not extend one of {first}")
    proof: list[bytes] = []
    start, end, whole = 0, second, True  # whole: the subtree is the first tree itself, whose root the verifier has
    while first != end:
        middle = start + _split(end - start)
        if first <= middle:
            proof.append(_range_root(middle, end, subtree))
            end = middle
        else:
            proof.append(_range_root(start, middle, subtree))
            start, whole = middle, False
    if not whole:
        proof.append(_range_root(start, end, subtree))
    return tuple(reversed(proof))


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root_hash: bytes) -> bool:
    """Tell whether the leaf *hash* stands at `index` in the tree of `size` with that root, section 2.1.3.2."""
    if not 0 <= index < size:
        return False
    fn, sn, current = index, size - 1, leaf
    for sibling in path:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            current = node_hash(sibling, current)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            current = node_hash(current, sibling)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and current == root_hash


def verify_consistency(first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes) -> bool:
    """Tell whether the tree of `second` leaves is that of `first` with more behind it, section 2.1.4.2."""
    if not 0 < first <= second:
        return False
    if first == second:
        return not proof and first_root == second_root
    nodes = list(proof)
    if first & (first - 1) == 0:  # an exact power of two: its root is itself a node of the second tree
        nodes.insert(0, first_root)
    if not nodes:
        return False
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    first_seen = second_seen = nodes[0]
    for node in nodes[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            first_seen, second_seen = node_hash(node, first_seen), node_hash(node, second_seen)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            second_seen = node_hash(second_seen, node)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and first_seen == first_root and second_seen == second_root


def _split(size: int) -> int:
    """Return the largest power of two smaller than `size` (k of section 2.1.1)."""
    return 1 << ((size - 1).bit_length() - 1)


def _range_root(start: int, end: int, subtree: Subtree) -> bytes:
    """Return MTH(D[start:end]) of a range that section 2.1.1's splitting yields: its left parts are complete."""
    size = end - start
    level = size.bit_length() - 1
    if size == 1 << level:
        return subtree(level, start >> level)
    middle = start + _split(size)
    return node_hash(_range_root(start, middle, subtree), _range_root(middle, end, subtree))
