"""What URDB calls things: its keys by what is done with them, its units, its metering rules.

Tables only. A key that is in none of them is named and refused.
"""

from __future__ import annotations

# Kept word for word and written again; none of them changes a price.
FACTS = frozenset((
    "uri", "eiaid", "sector", "supersedes", "approved", "description", "source", "sourceparent", "is_default",
    "country", "revisions", "basicinformationcomments", "energycomments", "demandcomments", "servicetype",
    "voltagecategory", "phasewiring", "voltageminimum", "voltagemaximum", "peakkwcapacitymin",
    "peakkwcapacitymax", "peakkwcapacityhistory", "peakkwhusagemin", "peakkwhusagemax", "peakkwhusagehistory",
    "energyattrs", "demandattrs", "fixedattrs", "fixedchargeeaaddl",
))  # fmt: skip
PRICED = frozenset((
    "label", "utility", "name", "startdate", "enddate",
    "energyratestructure", "energyweekdayschedule", "energyweekendschedule",
    "demandratestructure", "demandweekdayschedule", "demandweekendschedule", "demandrateunit", "demandunits",
    "flatdemandstructure", "flatdemandmonths", "flatdemandunit",
    "coincidentratestructure", "coincidentrateschedule", "coincidentrateunit",
    "fixedchargefirstmeter", "fixedchargeunits", "fixedmonthlycharge",
    "mincharge", "minchargeunits", "annualmincharge", "minmonthlycharge",
    "demandratchetpercentage", "lookbackmonths", "lookbackrange", "lookbackpercent", "demandwindow",
    "reactivepowercharge", "demandreactivepowercharge", "dgrules", "usenetmetering",
))  # fmt: skip

KINDS = {"bundled": "both", "delivery with standard offer": "both", "energy": "energy", "delivery": "distribution"}
# Unit of a tier's max, lower case -> unit and what it counts for.
TIER_UNITS = {
    "kwh": ("kWh", "cycle"), "kwh/kw": ("kWh/kW", "cycle"),
    "kwh daily": ("kWh", "daily"), "kwh/kw daily": ("kWh/kW", "daily"),
}  # fmt: skip
UNIT_OF = {
    ("kWh", "cycle"): "kWh", ("kWh/kW", "cycle"): "kWh/kW",
    ("kWh", "daily"): "kWh daily", ("kWh/kW", "daily"): "kWh/kW daily",
}  # fmt: skip
PER = {"$/month": "month", "$/day": "day", "$/year": "year"}
METERING = {
    "Net Metering": "net-metering",
    "Net Billing Instantaneous": "net-billing",
    "Net Billing Hourly": "net-billing-hourly",
    "Buy All Sell All": "buy-all-sell-all",
}
EACH_ADDITIONAL = "each additional meter"
STANDING = "standing charge"
