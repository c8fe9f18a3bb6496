"""Spyne at the office edge: it knows the operations, dispatches to their handlers and writes the faults.

In: the Body's child of a message whose sender is known and that is valid by its schema, with the call it belongs to.
Out: a Deferred of what goes back. Of Spyne are used: `@rpc` as the declaration of an operation, the interface's table,
the context, ServerBase's steps, Fault and its SOAP 1.1 writer. Its parser, validation, type model, headers, WSDL and
Twisted transport never see a message: nothing that a stranger sent reaches this file.

An operation is one line in OPERATIONS; `utility.wsdl` and `supplier.wsdl`, written by hand, say the same (a test
compares them).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple

from lxml import etree
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from gridpost import answers, ns, schemas
from gridpost.envelope import Element
from gridpost.errors import GridpostError, Internal, UnknownOperation
from gridpost.model import Refusal

from .spyne_compat import AnyXml, Application, Fault, MethodContext, ServerBase, Service, Soap11, rpc

TARGET_NAMESPACE = "urn:gridpost:utility:1"
_HEAD = f'<soap:Envelope xmlns:soap="{ns.SOAP11}"><soap:Body>'.encode()
_TAIL = b"</soap:Body></soap:Envelope>"
_log = Logger()


class Operation(NamedTuple):
    """An operation of utility.wsdl or supplier.wsdl.

    Attributes:
        name: of the operation; never an element's, which some toolkits take amiss.
        action: SOAPAction.
        request: QName of the Body's child, in Clark's notation.
        answer: QName of the answer's.
    """

    name: str
    action: str
    request: str
    answer: str


class Answer(NamedTuple):
    """What a handler gives back.

    Attributes:
        body: the Body's child, in canonical form.
        sealed: the signed envelope around it, where one is kept as it was made; empty: none.
    """

    body: bytes
    sealed: bytes = b""


class Reply(NamedTuple):
    """What Spyne made of a call: exactly one of answer and error, and the plain envelope that says it."""

    envelope: bytes
    answer: Answer | None = None
    error: GridpostError | None = None


Handler = Callable[[Any], Coroutine[Any, Any, Answer]]  # of the call


def _row(name: str, space: str, verb: str, noun: str) -> Operation:
    """An operation by the pattern of IEC 61968-100: ``<Verb><Noun>`` asks, ``<Noun>ResponseMessage`` answers."""
    element = f"{verb}{noun}"
    request = ns.q(space, element)
    return Operation(name, schemas.PARTNER_ACTIONS[request], request, ns.q(space, f"{noun}ResponseMessage"))


_READINGS = (ns.METER_READINGS_MESSAGE, "MeterReadings")
_EVENTS = (ns.END_DEVICE_EVENTS_MESSAGE, "EndDeviceEvents")
_CONTROLS = (ns.END_DEVICE_CONTROLS_MESSAGE, "EndDeviceControls")
_CONFIG = (ns.METER_CONFIG_MESSAGE, "MeterConfig")
_MAIL = (ns.MAILBOX, "Mailbox")
_COMPLETENESS = (ns.COMPLETENESS, "Completeness")
_TARIFF, _CONTRACT, _COMPARISON = ((ns.SUPPLY, noun) for noun in ("Tariff", "Contract", "TariffComparison"))

# Operation, what it is about, its verb: the operations that offices may call.
OPERATIONS: tuple[Operation, ...] = tuple(
    _row(name, space, verb, noun)
    for name, (space, noun), verb in (
        ("QueryMeterReadings", _READINGS, "Get"),
        ("RequestMeterReadings", _READINGS, "Create"),
        ("WithdrawMeterReadings", _READINGS, "Cancel"),
        ("QueryEndDeviceEvents", _EVENTS, "Get"),
        ("QueryEndDeviceControls", _CONTROLS, "Get"),
        ("RequestEndDeviceControls", _CONTROLS, "Create"),
        ("ReplaceEndDeviceControls", _CONTROLS, "Change"),
        ("WithdrawEndDeviceControls", _CONTROLS, "Cancel"),
        ("QueryMeterConfig", _CONFIG, "Get"),
        ("EnrolMeterConfig", _CONFIG, "Create"),
        ("AmendMeterConfig", _CONFIG, "Change"),
        ("ReadMailbox", _MAIL, "Peek"),
        ("CommitMailbox", _MAIL, "Dequeue"),
        ("QueryCompleteness", _COMPLETENESS, "Get"),
        ("OfferTariff", _TARIFF, "Create"),
        ("ReviseTariff", _TARIFF, "Change"),
        ("QueryTariff", _TARIFF, "Get"),
        ("RequestContract", _CONTRACT, "Create"),
        ("DecideContract", _CONTRACT, "Change"),
        ("QueryContract", _CONTRACT, "Get"),
        ("CompareTariffs", _COMPARISON, "Get"),
    )
)
_NOUNS: Mapping[str, str] = {
    one.request: one.answer.rpartition("}")[2].removesuffix("ResponseMessage") for one in OPERATIONS
}


def plain(answer: Answer) -> bytes:
    """Return the envelope of an answer without a signature."""
    return _HEAD + answer.body + _TAIL


class Edge(ServerBase):  # type: ignore[misc]
    """The operations with their handlers."""

    transport = "http://schemas.xmlsoap.org/soap/http"

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        """Take the handler of every operation, by its name.

        Raises:
            KeyError: one has none.
        """
        functions = {one.name: _declared(one, handlers[one.name]) for one in OPERATIONS}
        service = type("Office", (Service,), functions)
        super().__init__(_App([service], TARGET_NAMESPACE, in_protocol=_Elements(), out_protocol=_Elements()))

    def table(self) -> Sequence[Operation]:
        """Return the operations as Spyne knows them, by name."""
        known = self.app.interface.method_id_map.values()
        found = (
            Operation(one.operation_name, one.udd["action"], _qname(one.in_message), _qname(one.out_message))
            for one in known
        )
        return sorted(found)

    def call(self, payload: Element, call: Any) -> Deferred[Reply]:
        """Dispatch a message; the Deferred does not fail.

        Args:
            payload: the Body's child, of a known sender and valid by its schema.
            call: handed to the operation's handler.
        """
        first = MethodContext(self, MethodContext.SERVER)
        first.in_document = payload
        first.udc = call
        context = self.generate_contexts(first)[0]
        if context.in_error is None:
            self.get_in_object(context)
            self.get_out_object(context)
        if context.out_error is not None:
            return succeed(self._said(context))
        running = Deferred.fromCoroutine(context.out_object[0])
        running.addCallback(lambda answer: _put(context, answer))
        running.addErrback(lambda failure: _put_error(context, failure))
        return running.addCallback(lambda _: self._said(context))

    def noun(self, request: str) -> str:
        """Return the noun of a request's element; of one that is no operation, any."""
        return _NOUNS.get(request, "MeterReadings")

    def refused(self, error: GridpostError, request: str) -> bytes:
        """Return the envelope of a fault for a request that no handler saw."""
        context = MethodContext(self, MethodContext.SERVER)
        context.out_error = _fault(error, self.noun(request))
        return self._said(context).envelope

    def _said(self, context: Any) -> Reply:
        self.get_out_string(context)
        envelope = b"".join(context.out_string)
        context.close()
        if context.out_error is not None:
            return Reply(envelope, error=getattr(context.out_error, "cause", None) or UnknownOperation())
        return Reply(envelope, answer=context.out_object[0])


def _put(context: Any, answer: Answer) -> None:
    _require(answer.body, context.descriptor)
    context.out_object = [answer]


def _put_error(context: Any, failure: Failure) -> None:
    context.out_object = None
    assert failure.value is not None
    context.out_error = _fault(failure.value, _noun(context.descriptor))


def _declared(operation: Operation, handler: Handler) -> Any:
    """An operation as Spyne declares it; the function's name is the operation's."""

    def function(ctx: Any, payload: Element) -> Coroutine[Any, Any, Answer]:
        return handler(ctx.udc)

    function.__name__ = operation.name
    declare = rpc(
        AnyXml, _returns=AnyXml, _body_style="bare", _in_message_name=operation.request,
        _out_message_name=operation.answer, _udd={"action": operation.action},
    )  # fmt: skip
    return declare(function)


def _qname(message: Any) -> str:
    return ns.q(message.Attributes.sub_ns, message.Attributes.sub_name)


class _App(Application):  # type: ignore[misc]
    def call_wrapper(self, ctx: Any) -> Any:
        """Let nothing of a defect out: Spyne would put it into the answer."""
        try:
            return super().call_wrapper(ctx)
        except Exception as error:
            raise _fault(error, _noun(ctx.descriptor)) from None


class _Elements(Soap11):  # type: ignore[misc]
    """SOAP 1.1 between elements already parsed and bytes already encoded."""

    def set_app(self, app: Any) -> None:
        """Make the table by QName; Spyne's own has one line for two elements of one local name."""
        super().set_app(app)
        known = app.interface.method_id_map.values() if app else ()
        self._by_qname = {_qname(one.in_message): [one] for one in known}
        assert len(self._by_qname) == len(known), "two operations take one element"

    def create_in_document(self, ctx: Any, charset: Any = None) -> None:
        """Parse nothing: `Edge.call` has put the element there."""

    def decompose_incoming_envelope(self, ctx: Any, message: Any = None) -> None:
        """Take the element as the Body's child; it is."""
        ctx.in_body_doc = ctx.in_document
        ctx.method_request_string = ctx.in_document.tag

    def get_call_handles(self, ctx: Any) -> Any:
        """Find an operation by its element's QName."""
        return self._by_qname.get(ctx.method_request_string, ())

    def deserialize(self, ctx: Any, message: Any) -> None:
        """Hand the element on as it is."""
        ctx.in_object = ctx.in_body_doc

    def serialize(self, ctx: Any, message: Any) -> None:
        """Write a fault; an answer is bytes already."""
        if ctx.out_error is None:
            return
        envelope = etree.Element(ns.q(ns.SOAP11, "Envelope"), nsmap={self.soap_env: ns.SOAP11})
        body = etree.SubElement(envelope, ns.q(ns.SOAP11, "Body"))
        self.to_parent(ctx, type(ctx.out_error), ctx.out_error, body, ns.SOAP11)
        ctx.out_document = envelope

    def create_out_string(self, ctx: Any, charset: Any = None) -> None:
        """Put the bytes together; an answer is not parsed again."""
        if ctx.out_error is not None:
            ctx.out_string = [etree.tostring(ctx.out_document, encoding="utf-8", xml_declaration=False)]
        else:
            ctx.out_string = [plain(ctx.out_object[0])]


def _require(body: bytes, descriptor: Any) -> None:
    """Hold an answer against the element that its operation declares; another one is a defect."""
    space, _, local = _qname(descriptor.out_message).removeprefix("{").partition("}")
    assert body.startswith(f'<{local} xmlns="{space}">'.encode()), f"{descriptor.operation_name} answers {local}"


def _noun(descriptor: Any) -> str:
    return _NOUNS[_qname(descriptor.in_message)]


def _fault(error: BaseException, noun: str) -> Any:
    """A Spyne fault of an error of ours; of anything else, a defect, it tells nothing."""
    if isinstance(error, Fault):
        return error
    if not isinstance(error, GridpostError):
        _log.failure("operation on {noun}", Failure(error), noun=noun)
        error = Internal()
    fault = Fault(error.soap_fault, f"{error.code}: {error.reason}", detail=fault_detail(error, noun))
    fault.cause = error
    return fault


def fault_detail(error: GridpostError, noun: str) -> Element:
    """Return ``<Noun>FaultMessage`` with the findings; without a Refusal, which binds a signed one to its attempt."""
    items = tuple((item.code, item.reason, item.path) for item in error.items)
    refusal = Refusal(error.code, error.retry, error.reason, b"-", b"-", 0, items)
    fault = answers.encode_refusal(refusal, error.soap_fault, noun)
    body = etree.fromstring(b'<soap:Body xmlns:soap="%s">%s</soap:Body>' % (ns.SOAP11.encode(), fault))
    message = body[0].find("detail")[0]
    message.remove(message.find(ns.q(ns.REFUSAL, "Refusal")))
    return message
