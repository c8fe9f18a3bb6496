"""Customer information systems: MultiSpeak 3.0ac and 4.1.6, and IEC 61968-100 events, pushed to a partner's service."""

from __future__ import annotations

from ..soap_call import Partner, SoapCall, Wrap, plain
from .answers import judged


class PartnerService(SoapCall):
    """Delivery to a partner's service; entry point ``soap`` of the group ``gridpost.deliveries``."""

    def __init__(self, wsdl: str, endpoint: str = "", wrap: Wrap = plain, timeout_s: int = 30) -> None:
        """Name a partner.

        Args:
            wsdl: where the partner's description lies, a path or an address.
            endpoint: its registered address; empty: the one in the description.
            wrap: makes an envelope: `answers.wrapping` for MultiSpeak, a seal for 61968-100.
            timeout_s: for a whole call.
        """
        super().__init__(Partner(wsdl, endpoint, judged, wrap, timeout_s))


__all__ = ["PartnerService"]
