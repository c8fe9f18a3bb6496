"""Sends a customer information system one reading, as Gridpost does: `python examples/cis/send.py WSDL-ADDRESS`."""

import sys
import time

from gridpost.adapters.cis import PartnerService
from gridpost.adapters.cis.answers import Credentials, wrapping
from gridpost.adapters.cis.notifications import reading_changed
from gridpost.adapters.cis.tables import Version

from gridpost.model import ChannelKey, RegisterReading

channel = ChannelKey("UP-1", "M1", "E1", "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0")
notification = reading_changed([RegisterReading(channel, 1_772_323_200, "1234.5")], Version.V3, "demo-1")
wrap = wrapping(Version.V3, Credentials("gridpost", "secret", "Example Co-op"), lambda: time.time_ns() // 1_000_000)
place = PartnerService(sys.argv[1], wrap=wrap).deliver("demo-1", notification.content)
print(f"{notification.operation} was taken by {place}")
