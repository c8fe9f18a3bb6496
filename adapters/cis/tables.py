"""What MultiSpeak calls things: namespaces, units, states of a switch; and the fields of its message header.

In: our units, actions and states. Out: MultiSpeak's words, or None where it has none. Data only.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from gridpost.controls import State


class Version(StrEnum):
    """A MultiSpeak version that is spoken here, by its namespace."""

    V3 = "http://www.multispeak.org/Version_3.0"  # 3.0ac
    V4 = "http://www.multispeak.org/Version_4.1_Release"  # 4.1.6


# Our unit symbols -> MultiSpeak's uom. What is missing here is missing there.
UOM: Mapping[str, str] = {
    "Wh": "Wh", "kWh": "kWh", "MWh": "MWh", "GWh": "GWh",
    "W": "W", "kW": "kW", "MW": "MW", "GW": "GW",
    "var": "VAR", "kvar": "kVAR", "Mvar": "MVAR", "Gvar": "GVAR",
    "varh": "VARh", "kvarh": "kVARh", "Mvarh": "MVARh", "Gvarh": "GVARh",
    "VA": "VA", "kVA": "kVA", "MVA": "MVA", "GVA": "GVA",
    "VAh": "VAh", "kVAh": "kVAh", "MVAh": "MVAh", "GVAh": "GVAh",
    "V": "V", "kV": "kV", "mV": "mV", "A": "Amps", "kA": "kAmps", "mA": "mAmps",
    "Hz": "Frequency", "°C": "deg C", "count": "Counter",
}  # fmt: skip

# Action that was done -> loadActionCode of the switch afterwards.
LOAD_ACTION: Mapping[str, str] = {
    "shed": "Open",
    "trip": "Open",
    "disconnect-generator": "Open",
    "restore": "Closed",
    "start-generator": "Closed",
}
# State of the control -> whether the switch is where the action wanted it; else it is where nobody knows.
KNOWN_AFTER = frozenset((State.DONE,))
UNKNOWN = "Unknown"

# What the header of each version says of the version itself, in the order of its schema.
STATED: Mapping[Version, Mapping[str, str]] = {
    Version.V3: {"Version": "3.0ac"},
    Version.V4: {"MajorVersion": "4", "MinorVersion": "1", "Build": "6", "BuildString": "Release"},
}
