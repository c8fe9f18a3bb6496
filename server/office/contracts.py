"""CreateContract, ChangeContract, GetContract: a change of supplier, from the request to its effective date.

In: a call. Out: the receipt, or the contracts that a partner may see. A contract is a document of the bus's own entry
that names who asked or decided, because the bus adds to what was asked: the channels, and the end of the contract that
another one takes the place of. That entry is made first, under an id made of the call's, so a message sent again after
a crash finds it and goes on; then the supplier's right to read; then the call's own entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from gridpost import contract as contracts
from gridpost.contract import CONFIRMED, ENDED, REJECTED, REQUESTED, Contract, metered_by
from gridpost.controls import Role
from gridpost.documents import CONTRACT
from gridpost.errors import AlreadyExists, ConfigInvalid, ContractRefused, NotGranted
from gridpost.model import Channel, Rows
from gridpost.office_messages import encode_ok_reply, reply_to
from gridpost.partners import Grant, Partner
from gridpost.ports import StoredDocument
from gridpost.supply import ChangeContract, CreateContract, Decision, GetContract, Sought, Supply
from gridpost.supply_messages import encode_contracts_reply
from gridpost.tariff import Tariff

from .. import own
from ..billing import filed
from ..billing.filing import contract_document
from ..controls.contract_mails import told
from ..own import Bench
from ..soap import Answer
from ..store import SqlStore
from .call import Aside, Call
from .entries import Entries
from .rights import STAFF, Rights
from .tariffs import check_named, is_sought, key_of, paging

_BILLING = "billing"
_Changed = Callable[[], Sequence[Contract]]  # works out the contracts as they are to be


@dataclass(frozen=True, slots=True)
class ContractDesk:
    """The handlers; `most`: contracts of one answer; `aside` runs what asks or changes the store off the reactor."""

    bench: Bench
    rights: Rights
    entries: Entries
    most: int
    aside: Aside

    async def request(self, call: Call) -> Answer:
        """CreateContract."""
        assert isinstance(call.message, CreateContract)
        asked = call.message.contract
        return await self._done(call, lambda: (self._requested(call.partner, asked),))

    async def decide(self, call: Call) -> Answer:
        """ChangeContract."""
        assert isinstance(call.message, ChangeContract)
        decision = call.message.decision
        return await self._done(call, lambda: self._decided(call, decision))

    def look(self, call: Call) -> bytes:
        """GetContract: as they are now."""
        assert isinstance(call.message, GetContract)
        sought, partner, now_utc = call.message.sought, call.partner, call.now_utc_ms // 1000
        seen = list(self._seen(partner, sought, now_utc))
        check_named(sought.usage_points, (one.document.subject for one in seen))
        check_named(sought.suppliers, (one.document.owner for one in seen))
        check_named(sought.ids, (one.document.id for one in seen))
        shown, page = paging([one for one in seen if is_sought(one, sought)], key_of, sought, self.most)
        header = reply_to(call.header, self.bench.bus_id, call.now_utc_ms)
        return encode_contracts_reply(header, [told(_contract(one)) for one in shown], page)

    async def _done(self, call: Call, changed: _Changed) -> Answer:
        await self.aside(lambda: self._put(call, changed))
        header = reply_to(call.header, self.bench.bus_id, call.now_utc_ms)
        return await self.entries.record(call, Rows(), lambda receipt: encode_ok_reply("Contract", header, receipt))

    def _put(self, call: Call, changed: _Changed) -> None:
        name = sha256(f"{call.partner.id}\n{call.header.message_id}".encode()).hexdigest()
        message_id, author = f"contract-{name[:48]}", f"{call.partner.id}, message {call.header.message_id}"
        receipt = own.known(self.bench, message_id)
        if receipt is None:
            documents = tuple(map(contract_document, changed()))
            receipt = own.record_documents(self.bench, message_id, author, documents)
        for one in self.bench.store.documents_of([receipt.position]):
            self._let_read(_contract(one))

    def _let_read(self, one: Contract) -> None:
        """Give the supplier what it bills, for as long as it supplies."""
        supplier = self.bench.store.partner(one.supplier)
        if supplier is None or not one.is_billed:
            return
        if _is_in(self.bench.store, supplier.tenant, one.usage_point, self.bench.clock() // 1000):
            self.bench.store.give(Grant(one.supplier, one.usage_point, _BILLING, one.from_utc, one.to_utc))

    # --- asking ---

    def _requested(self, partner: Partner, asked: Supply) -> Contract:
        store = self.bench.store
        if not _is_in(store, partner.tenant, asked.usage_point, self.bench.clock() // 1000):
            raise NotGranted(f"no grant for {asked.usage_point[:64]}")
        if store.documents(CONTRACT, id=asked.id):  # anybody's: bills are named by it
            raise AlreadyExists(f"contract {asked.id[:64]} is on file: a new one has an id of its own")
        tariff = self._tariff(partner.id, asked.tariff, asked.from_utc)
        new = Contract(
            id=asked.id,
            customer=asked.customer,
            usage_point=asked.usage_point,
            channels=metered_by(self._channels(asked)),
            supplier=partner.id,
            tariff=asked.tariff,
            kind=tariff.kind,
            from_utc=asked.from_utc,
            to_utc=asked.to_utc,
            zone=tariff.zone,
            cycle_day=asked.cycle_day,
            status=REQUESTED,
        )
        return _checked(new)

    def _tariff(self, supplier: str, name: str, at_utc: int) -> Tariff:
        """The supplier's tariff, in force at the effective date."""
        found = filed.tariff_at(self.bench.store, supplier, name, at_utc)
        if found is None:
            raise ContractRefused(f"there is no tariff {name[:64]} of {supplier} in force at the effective date")
        return found.value

    def _channels(self, asked: Supply) -> list[Channel]:
        """What the usage point has at the effective date; where that lies ahead, what it has now."""
        there = self.bench.store.channels(usage_point=asked.usage_point)
        return [one for one in there if one.holds_at(asked.from_utc + 1)] or list(there)

    # --- deciding ---

    def _decided(self, call: Call, decision: Decision) -> tuple[Contract, ...]:
        found = self.bench.store.documents(CONTRACT, owner=decision.supplier, id=decision.id)
        if not found or not self._may_decide(call, found[0], decision):
            raise NotGranted(f"no grant for {decision.id[:64]}")
        now = _contract(found[0])
        before = (REQUESTED, CONFIRMED) if decision.status == ENDED else (REQUESTED,)
        if now.status not in before:
            raise ContractRefused(f"contract {now.id} is {now.status}: it cannot be {decision.status} any more")
        if decision.status != CONFIRMED:
            return (self._closed(now, decision),)
        begins = decision.from_utc or now.from_utc
        new = _checked(replace(now, status=CONFIRMED, reason=decision.reason, from_utc=begins))
        self._tariff(new.supplier, new.tariff, new.from_utc)
        return (new, *self._replaced(new))

    def _may_decide(self, call: Call, found: StoredDocument, decision: Decision) -> bool:
        """Its supplier ends it; who else may see it decides, unless he supplies there too."""
        if found.document.owner == call.partner.id and call.partner.role not in STAFF:
            return decision.status == ENDED
        return call.partner.role is not Role.SUPPLIER and self._sees(call.partner, found, call.now_utc_ms // 1000)

    def _closed(self, now: Contract, decision: Decision) -> Contract:
        if now.status == REQUESTED:  # taken back, it is as if it had been rejected: never in force
            return replace(now, status=REJECTED, reason=decision.reason or "taken back")
        return _checked(replace(now, status=ENDED, reason=decision.reason, to_utc=decision.to_utc))

    def _replaced(self, new: Contract) -> Iterator[Contract]:
        """End what is in force for the same kind when a new contract begins."""
        for one in held(self.bench.store, new.usage_point):
            if not one.rivals(new):
                continue
            if one.from_utc >= new.from_utc:
                raise ContractRefused(f"contract {one.id} of {one.supplier} begins at that date or later: end it first")
            why = f"replaced by contract {new.id} of {new.supplier}"
            yield replace(one, status=ENDED, reason=why, to_utc=new.from_utc)

    # --- who sees it ---

    def _seen(self, partner: Partner, sought: Sought, now_utc: int) -> Iterator[StoredDocument]:
        owner = partner.id if partner.role is Role.SUPPLIER else None
        subject = sought.usage_points[0] if len(sought.usage_points) == 1 else None
        found = self.bench.store.documents(CONTRACT, owner=owner, subject=subject)
        return (one for one in found if self._sees(partner, one, now_utc))

    def _sees(self, partner: Partner, found: StoredDocument, now_utc: int) -> bool:
        document = found.document
        if document.owner == partner.id:
            return True
        if partner.role is Role.SUPPLIER:
            return False
        if partner.role in STAFF:
            return _is_in(self.bench.store, partner.tenant, document.subject, now_utc)
        granted = self.bench.store.granted_channels(partner.id, [document.subject])
        return any(grant.kind == _BILLING and grant.holds_at(now_utc) for _, grant in granted)


def held(store: SqlStore, usage_point: str) -> list[Contract]:
    """Return the contracts of a usage point that are, were or will be in force, as they are now."""
    found = map(_contract, store.documents(CONTRACT, subject=usage_point))
    return [one for one in found if one.is_billed]


def _checked(one: Contract) -> Contract:
    try:
        contracts.check(one)
    except ConfigInvalid as wrong:
        raise ContractRefused(wrong.reason, items=wrong.items) from None
    return one


def _contract(found: StoredDocument) -> Contract:
    return contracts.decode(found.document.content)


def _is_in(store: SqlStore, tenant: str, usage_point: str, now_utc: int) -> bool:
    """Tell whether a usage point has an IED of a tenant."""
    return any(tenant in store.tenants(serial) for serial in store.ieds_of(usage_point, now_utc))
