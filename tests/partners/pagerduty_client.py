"""Both public client libraries of PagerDuty, with only their URL changed.

The newer one speaks TLS alone, so there is a proxy before the gateway, as many have one.
Prints one JSON object with the dedup_key that each was told.
"""

import json
import socket
import ssl
import sys
import threading
import urllib.parse
import warnings

import pagerduty

warnings.simplefilter("ignore")
import pdpyras

url, key, certificate, private_key = sys.argv[1:5]


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def proxy():
    """Ends TLS before the gateway, and returns the URL that clients use."""
    gateway = urllib.parse.urlsplit(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private_key)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            plain, _ = listener.accept()
            client = context.wrap_socket(plain, server_side=True)
            server = socket.create_connection((gateway.hostname, gateway.port))
            for ends in ((client, server), (server, client)):
                threading.Thread(target=pump, args=ends, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return f"https://127.0.0.1:{listener.getsockname()[1]}"


secure = proxy()
trust = ssl.create_default_context(cafile=certificate)
client = pagerduty.EventsApiV2Client(key, base_url=secure, verify=trust)
first = client.trigger(
    "disk of db-1 is full",
    "db-1.example.org",
    severity="warning",
    custom_details={"free": "1 %"},
    links=[{"href": "https://example.org/db-1", "text": "its page"}],
)
again = client.trigger("disk of db-1 is full", "db-1.example.org", dedup_key=first)
client.acknowledge(first)
client.submit("build 7", source="ci", custom_details={"build": 7}, timestamp="2026-01-02T03:04:05.678Z")

pdpyras.EventsAPISession.url = url
session = pdpyras.EventsAPISession(key)
second = session.trigger("web-1 is slow", "web-1.example.org", severity="error")
session.resolve(second)

changes = pdpyras.ChangeEventsAPISession
changes.url = url
changes(key).submit("web is configured anew", source="ci")

refused = None
try:
    pagerduty.EventsApiV2Client("long" * 64, base_url=secure, verify=trust).trigger("a", "b")
except pagerduty.Error as error:
    refused = error.response.json()

print(json.dumps({"first": first, "again": again, "second": second, "refused": refused}))
