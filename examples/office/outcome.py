"""Waits for the outcome of the shed in the office's mailbox: `python examples/office/outcome.py`, in the walk's folder.

Out: mail.xml, the answer as the bus signed it, and on standard output the place of the device's signed message in the
log, `partition:seq`. Only what is safely kept is committed, so a crash in between loses nothing.
"""

import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import office

from gridpost.office_messages import encode_dequeue_mailbox, encode_peek_mailbox

MAIL = "{urn:gridpost:mailbox:1}"
deadline, place = time.monotonic() + 120, ""
while not place:
    if time.monotonic() > deadline:
        sys.exit("no outcome came within two minutes: is the device running?")
    answer = office.call(encode_peek_mailbox(office.header("get", "Mailbox")))
    for mail in ElementTree.fromstring(answer).iter(f"{MAIL}Mail"):
        print(f"mail {mail.findtext(f'{MAIL}number')}: {mail.findtext(f'{MAIL}kind')}", file=sys.stderr)
        asked = mail.findtext(f"{MAIL}correlationID") or ""
        if mail.findtext(f"{MAIL}kind") == "outcome-done" and asked.startswith("shed-"):
            Path("mail.xml").write_bytes(answer)
            named = {one.findtext("{*}name"): one.findtext("{*}value") for one in mail.iter()}
            place = named["entry"]  # the detail of the event that says which entry the device's message is
        number = int(mail.findtext(f"{MAIL}number"))
        office.call(encode_dequeue_mailbox(office.header("delete", "Mailbox"), number))
    time.sleep(0.2)
print(place)
