"""Ten lines of zeep: the day of a usage point. `python examples/office/read_day.py`, in the folder of the walk."""

import datetime
import uuid
from pathlib import Path

import requests
import zeep
from zeep.wsse.username import UsernameToken

session = requests.Session()
session.trust_env, session.verify = False, "tls-ca.pem"
token = UsernameToken("GRID-CO", Path("password.txt").read_text().strip())
client = zeep.Client("https://127.0.0.1:8444/utility?wsdl", token, transport=zeep.Transport(session=session))
header = {"Verb": "get", "Noun": "MeterReadings", "Source": "GRID-CO", "MessageID": str(uuid.uuid4()),
          "Timestamp": datetime.datetime.now(datetime.UTC)}  # fmt: skip
period = {"StartTime": "2025-02-28T23:00:00Z", "EndTime": "2025-03-01T23:00:00Z"}
answer = client.service.QueryMeterReadings(header, period | {"Option": [{"name": "usagePoint", "value": "UP-7"}]})
values = [
    r.value for m in answer.Payload.MeterReadings.MeterReading for b in m.IntervalBlocks for r in b.IntervalReadings
]
print(f"{len(values)} quarter hours, {sum(values)} kWh")
