"""Both public client libraries of PagerDuty, with only their URL changed.

Prints one JSON object with the dedup_key that each was told.
"""

import json
import sys

import pagerduty
import pdpyras

url, key = sys.argv[1], sys.argv[2]

client = pagerduty.EventsApiV2Client(key, base_url=url)
first = client.trigger(
    "disk of db-1 is full",
    "db-1.example.org",
    severity="warning",
    custom_details={"free": "1 %"},
    links=[{"href": "https://example.org/db-1", "text": "its page"}],
)
again = client.trigger("disk of db-1 is full", "db-1.example.org", dedup_key=first)
client.acknowledge(first)
client.submit("build 7 of db is out", source="ci", custom_details={"build": 7})

pdpyras.EventsAPISession.url = url
session = pdpyras.EventsAPISession(key)
second = session.trigger("web-1 is slow", "web-1.example.org", severity="error")
session.resolve(second)

changes = pdpyras.ChangeEventsAPISession
changes.url = url
changes(key).submit("web is configured anew", source="ci")

refused = None
try:
    pagerduty.EventsApiV2Client("short", base_url=url).trigger("a", "b")
except pagerduty.Error as error:
    refused = error.response.json()

print(json.dumps({"first": first, "again": again, "second": second, "refused": refused}))
