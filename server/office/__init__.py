"""The office side of the bus: a partner's message from the door to its answer.

    transports/office_http.py -> door.py -> callers.py (who is it) -> rights.py (may it) -> ../soap.py -> a handler

Handlers: readings, events, controls, meter_config, mailbox; `entries.py` records what is asked of the log, `service.py`
puts them together. Nothing unauthenticated passes `callers.py`; nothing is looked up for a partner but by `rights.py`.
"""
