"""RFC 9162 trees against a word-for-word transcription of section 2.1 and the Certificate Transparency test vectors."""

from hashlib import sha256

import pymerkle
import pytest

from gridpost import merkle

# Inputs and roots of the reference implementation's tests (certificate-transparency, merkletree/merkle_tree_test).
CT_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
SIZES = range(1, 34)
LEAVES = [b"leaf %d" % i for i in range(max(SIZES))]


# --- section 2.1 as it is written: lists of leaves, no subtrees kept -------------------------------------------------


def mth(leaves):
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = split(len(leaves))
    return sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def split(n):
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def path(m, leaves):
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m, leaves, whole):
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


# ---------------------------------------------------------------------------------------------------------------------


class Tree:
    """Grows by `append` and keeps what a store keeps: leaf hashes and completed subtrees."""

    def __init__(self, leaves):
        self.frontier, self.kept, self.frontiers = merkle.Frontier(), {}, [merkle.Frontier()]
        for number, leaf in enumerate(leaves):
            self.kept[0, number] = merkle.leaf_hash(leaf)
            self.frontier, nodes = merkle.append(self.frontier, self.kept[0, number])
            for node in nodes:
                assert (node.level, node.number) not in self.kept
                self.kept[node.level, node.number] = node.hash
            self.frontiers.append(self.frontier)

    def subtree(self, level, number):
        return self.kept[level, number]


@pytest.fixture(scope="module")
def tree():
    return Tree(LEAVES)


def flipped(digest):
    return bytes([digest[0] ^ 1]) + digest[1:]


def test_the_empty_tree_has_the_hash_of_nothing():
    assert merkle.root(merkle.Frontier()).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_roots_are_those_of_certificate_transparency():
    frontiers = Tree(CT_LEAVES).frontiers[1:]
    assert [merkle.root(frontier).hex() for frontier in frontiers] == CT_ROOTS


@pytest.mark.parametrize("size", SIZES)
def test_root_equals_the_recursive_definition(tree, size):
    assert merkle.root(tree.frontiers[size]) == mth(LEAVES[:size])


@pytest.mark.parametrize("size", [0, *SIZES])
def test_a_frontier_is_restored_from_kept_subtrees(tree, size):
    assert merkle.restore(size, tree.subtree) == tree.frontiers[size]


@pytest.mark.parametrize("size", SIZES)
def test_inclusion_proofs(tree, size):
    root = mth(LEAVES[:size])
    for index in range(size):
        leaf = merkle.leaf_hash(LEAVES[index])
        proof = merkle.inclusion_proof(index, size, tree.subtree)
        assert list(proof) == path(index, LEAVES[:size])
        assert merkle.verify_inclusion(leaf, index, size, proof, root)
        assert not merkle.verify_inclusion(flipped(leaf), index, size, proof, root)
        assert not merkle.verify_inclusion(leaf, index, size, proof, flipped(root))
        assert not merkle.verify_inclusion(leaf, index, size, (*proof, root), root)
        assert not any(merkle.verify_inclusion(leaf, i, size, proof, root) for i in range(-1, size + 1) if i != index)
        if proof:
            assert not merkle.verify_inclusion(leaf, index, size, proof[:-1], root)


@pytest.mark.parametrize("second", SIZES)
def test_consistency_proofs(tree, second):
    new = mth(LEAVES[:second])
    for first in range(1, second + 1):
        old = mth(LEAVES[:first])
        proof = merkle.consistency_proof(first, second, tree.subtree)
        assert list(proof) == subproof(first, LEAVES[:second], True)
        assert merkle.verify_consistency(first, second, proof, old, new)
        assert not merkle.verify_consistency(first, second, proof, flipped(old), new)
        assert not merkle.verify_consistency(first, second, proof, old, flipped(new))
        assert not merkle.verify_consistency(first, second, (*proof, new), old, new)
        if proof:
            assert not merkle.verify_consistency(first, second, proof[:-1], old, new)
        if first > 1:
            assert not merkle.verify_consistency(first - 1, second, proof, old, new)


def test_a_rewritten_history_has_no_consistency_proof(tree):
    other = Tree([b"forged", *LEAVES[1:]])
    proof = merkle.consistency_proof(5, 20, other.subtree)
    assert not merkle.verify_consistency(5, 20, proof, mth(LEAVES[:5]), merkle.root(other.frontiers[20]))


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3)])
def test_no_inclusion_proof_outside_the_tree(tree, index, size):
    with pytest.raises(IndexError):
        merkle.inclusion_proof(index, size, tree.subtree)


@pytest.mark.parametrize(("first", "second"), [(0, 3), (4, 3)])
def test_no_consistency_proof_backwards_or_from_nothing(tree, first, second):
    with pytest.raises(IndexError):
        merkle.consistency_proof(first, second, tree.subtree)
    assert not merkle.verify_consistency(first, second, (), merkle.EMPTY_ROOT, mth(LEAVES[:second]))


# --- pymerkle: an implementation that shares nothing with ours but the RFC -------------------------------------------


@pytest.fixture(scope="module")
def foreign():
    made = pymerkle.InmemoryTree(algorithm="sha256")
    for leaf in LEAVES:
        made.append_entry(leaf)
    return made


@pytest.mark.parametrize("size", SIZES)
def test_pymerkle_has_the_same_leaves_roots_and_inclusion_proofs(tree, foreign, size):
    assert foreign.get_root(size) == merkle.root(tree.frontiers[size])
    for index in range(size):
        theirs = foreign.prove_inclusion(index + 1, size)
        assert theirs.path == [merkle.leaf_hash(LEAVES[index]), *merkle.inclusion_proof(index, size, tree.subtree)]
        assert merkle.verify_inclusion(theirs.path[0], index, size, theirs.path[1:], foreign.get_root(size))


@pytest.mark.parametrize("second", SIZES)
def test_pymerkle_finds_every_tree_consistent_with_those_before_it(tree, foreign, second):
    """Its consistency proofs are of a form of its own; what they are proofs of, the roots, is the same."""
    later = merkle.root(tree.frontiers[second])
    for first in range(1, second + 1):
        prior = merkle.root(tree.frontiers[first])
        proof = foreign.prove_consistency(first, second)
        pymerkle.verify_consistency(prior, later, proof, prior_size=first, later_size=second)
        with pytest.raises(pymerkle.InvalidProof):
            pymerkle.verify_consistency(flipped(prior), later, proof, prior_size=first, later_size=second)
