"""The same meter through MultiSpeak 3.0ac: its newest reading, as soon as there is one; in the folder of the walk."""

import time
from pathlib import Path

import requests
import zeep

session = requests.Session()
session.trust_env, session.verify = False, "tls-ca.pem"
client = zeep.Client("https://127.0.0.1:8444/multispeak/v3?wsdl", transport=zeep.Transport(session=session))
header = client.get_element("{http://www.multispeak.org/Version_3.0}MultiSpeakMsgHeader")
caller = {"_soapheaders": [header(UserID="GRID-CO", Pwd=Path("password.txt").read_text().strip())]}
deadline, read = time.monotonic() + 60, None
while read is None and time.monotonic() < deadline:  # the device may be about to push it
    time.sleep(0.2)
    answer = client.service.GetLatestReadingByMeterNo(meterNo="METER-7", **caller)
    read = answer.body.GetLatestReadingByMeterNoResult
values = ", ".join(f"{one.value} {one.units}" for one in read.readingValues.readingValue)
print(f"{read.meterNo} at {read.readingDate}: {values}")
