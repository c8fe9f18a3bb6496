"""Customer information systems: MultiSpeak 3.0ac and 4.1.6, and IEC 61968-100 events, pushed to a partner's service."""

from .service import PartnerService

__all__ = ["PartnerService"]
