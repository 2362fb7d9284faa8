"""Debian's Orthanc on loopback, as the archive at the end of the chain."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import socket
import subprocess
import time
import urllib.request

import pydicom

from lohi_edge.dicom.send import Node, echo

SYSTEM = "/usr/bin:/usr/local/bin:/usr/sbin"
ORTHANC = shutil.which("Orthanc", path=SYSTEM)
STORESCU = shutil.which("storescu", path=SYSTEM)
MISSING = None if ORTHANC and STORESCU else "dcmtk and orthanc are not installed"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Archive:
    """An Orthanc as a context manager; `node` is where it receives.

    It stores what strangers send, unless it is told otherwise; then `know` them.
    """

    def __init__(self, folder, strangers=True):
        self.node = Node("PACS", "127.0.0.1", free_port())
        self._address = (self.node.host, self.node.port)
        self._http = free_port()
        folder.mkdir()
        self._config = folder / "orthanc.json"
        self._config.write_text(
            json.dumps(
                {
                    "DicomAet": self.node.title, "DicomPort": self.node.port,
                    "HttpPort": self._http, "StorageDirectory": str(folder / "db"),
                    "IndexDirectory": str(folder / "db"), "DicomAlwaysAllowStore": strangers,
                    "AuthenticationEnabled": False, "RemoteAccessAllowed": False, "Plugins": [],
                }
            )
        )  # fmt: skip

    def __enter__(self):
        self._process = subprocess.Popen([ORTHANC, self._config], stderr=subprocess.DEVNULL)
        for _ in range(1200):
            with contextlib.suppress(OSError), socket.create_connection(self._address):
                break  # pynetdicom would leave a socket open for each refused connection
            time.sleep(0.1)
        assert echo(self.node) > 0
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()

    def know(self, title):
        """Store what bears this title from now on."""
        url = f"http://127.0.0.1:{self._http}/modalities/{title}"
        body = json.dumps({"AET": title, "Host": "127.0.0.1", "Port": 1}).encode()
        urllib.request.urlopen(urllib.request.Request(url, body, method="PUT")).close()

    def instances(self, **query):
        """What it has stored, over its REST interface; query by e.g. SeriesInstanceUID."""
        base = f"http://127.0.0.1:{self._http}"
        asked = json.dumps({"Level": "Instance", "Query": query}).encode()
        with urllib.request.urlopen(f"{base}/tools/find", asked) as answer:
            found = json.load(answer)
        made = []
        for name in found:
            with urllib.request.urlopen(f"{base}/instances/{name}/file") as answer:
                made.append(pydicom.dcmread(io.BytesIO(answer.read())))
        return made


def storescu(folder, node):
    """Send a folder with dcmtk."""
    command = [STORESCU, "-aet", node.caller, "-aec", node.title, node.host, str(node.port)]
    subprocess.run([*command, *map(str, sorted(folder.iterdir()))], check=True)
