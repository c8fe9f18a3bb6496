"""Asks for a load to be shed, and for the meter to be read, in one signed message; in the folder of the walk."""

import uuid
from xml.etree import ElementTree

import office

from gridpost.control_messages import encode_create_controls
from gridpost.controls import Wanted

name = uuid.uuid4()
shed = Wanted(f"shed-{name}", "shed", ("METER-7",), output="load", reason="the walk")
read = Wanted(f"read-{name}", "request-data", ("METER-7",))
answer = office.call(encode_create_controls(office.header("create", "EndDeviceControls"), [shed, read]))
for wanted, state in zip(
    (shed, read), ElementTree.fromstring(answer).iter("{urn:gridpost:control:1}state"), strict=True
):
    print(f"{wanted.mrid}: {state.text}")
