"""The daemon on a DICOM network: from a scanner to an archive, whatever is killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request

import pydicom
import pytest
from typer.testing import CliRunner

from dicom_series import save, slices
from helpers import small_head
from lohi_edge.cli import app
from lohi_edge.dicom.receive import Listening, Receiver
from lohi_edge.dicom.send import NetworkError, Node, send
from lohi_edge.errors import UsageError
from lohi_edge.settings import load
from lohi_edge.watch import network
from orthanc import MISSING, Archive, free_port, storescu

PLANTED = b"PLANTED"


def ball(series=1, **more):
    """A small series that the identity bundle takes."""
    return slices(small_head(series), (2.0, 2.0), 2.0, series=series, **more)


def scanner(box, **settings):
    """Have the daemon receive; returns the node to send to."""
    box.settings["watch"]["series_quiet_s"] = 1.0
    box.settings["disk"] = {"reserve_gb": 0}
    box.settings["dicom"] = {"port": free_port(), "callers": "SCANNER", **settings}
    return Node("LOHI_EDGE", "127.0.0.1", box.settings["dicom"]["port"], "SCANNER")


def listening(box):
    return (box.status().get("dicom") or {}).get("port") == box.settings["dicom"]["port"]


def get(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()


@pytest.mark.slow
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_from_storescu_to_orthanc(box, tmp_path):
    """dcmtk -> receive -> watch -> enhance -> send -> Orthanc; and no name on the way."""
    box.settings["http"] = {"port": free_port(), "page": free_port()}
    with Archive(tmp_path / "orthanc") as archive:
        node = scanner(box, send=str(archive.node))
        box.start()
        box.wait(lambda: listening(box), "listening")
        made = ball()
        storescu(save(tmp_path / "scan", made), node)
        box.wait_states(done=1)
        box.wait(lambda: box.read_log().count("dicom.sent") == 2, "series and sheet sent")
        (receipt,) = box.receipts().values()
        result = receipt["result"]
        images = archive.instances(SeriesInstanceUID=result["series_uid"])
        (sheet,) = archive.instances(SeriesInstanceUID=result["sheet"]["series_uid"])
        http = [
            get(f"http://127.0.0.1:{box.settings['http'][server]}/{path}")
            for server, path in (
                ("port", "metrics"), ("port", "healthz"), ("page", "scans.json"),
                ("page", "report/1"),
            )
        ]  # fmt: skip
        assert box.stop() == 0
    (folder,) = box.outbox.rglob("*_desc-synthetic")
    sent = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, folder.iterdir())}
    assert {ds.SOPInstanceUID for ds in images} == set(sent)
    for ds in (*images, sheet):
        assert (ds.PatientID, ds.StudyInstanceUID) == ("PLANTED-ID", made[0].StudyInstanceUID)
    assert all(ds.PixelData == sent[ds.SOPInstanceUID].PixelData for ds in images)
    # Patients are named inside the DICOM files, and nowhere else.
    for path in (*box.inbox.rglob("*"), *box.outbox.rglob("*"), *box.state.rglob("*"), box.log):
        assert PLANTED not in bytes(path.relative_to(tmp_path)), path
        if path.is_file() and path.suffix != ".dcm":
            assert PLANTED not in path.read_bytes(), path
    assert not [body for body in http if PLANTED in body]


@pytest.mark.slow
def test_what_is_delivered_is_sent_whatever_is_killed(box, tmp_path):
    """Killed between delivery and ledger, with an archive that is away at first."""
    archive = Node("PACS", "127.0.0.1", free_port())
    box.settings["watch"]["series_quiet_s"] = 0.5
    box.settings["dicom"] = {"send": str(archive)}
    save(box.inbox / "ser", ball())
    for point in ("after_placed", "after_audit"):
        box.start(fault=point)
        box.wait_killed()
        if point == "after_placed":
            save(box.inbox / "other", ball(2))
    box.start()
    box.wait_states(done=2)
    box.wait(lambda: "dicom.not_sent" in box.read_log(), "a first try")
    took = Listening("PACS", port=archive.port, callers=("LOHI_EDGE",), reserve=0)
    with Receiver(tmp_path / "archive", took, lambda line: None):
        box.wait(lambda: len(list((tmp_path / "archive").rglob("*.dcm"))) == 48, "arrival")
        # It takes MR images alone, which holds up the two sheets and nothing else.
        box.wait(lambda: len(list((box.state / "send").glob("[0-9]*.json"))) == 2, "the sheets")
    assert box.stop() == 0
    assert len(box.receipts()) == len(list(box.outbox.rglob("*_sheet.dcm"))) == 2


@pytest.mark.slow
def test_what_was_given_up_is_sent_by_the_daemon_that_is_asked(box, tmp_path):
    archive = Node("PACS", "127.0.0.1", free_port())
    box.settings["watch"]["series_quiet_s"] = 0.5
    box.settings["dicom"] = {"send": str(archive)}
    save(box.inbox / "ser", ball())
    box.start()
    box.wait_states(done=1)
    assert box.stop() == 0
    jobs = list((box.state / "send").glob("[0-9]*.json"))
    for job in jobs:
        job.rename(job.with_name(f"failed-{job.name}"))
    took = Listening("PACS", port=archive.port, callers=("LOHI_EDGE",), reserve=0)
    with Receiver(tmp_path / "archive", took, lambda line: None):
        box.start()
        box.wait_ready()
        said = json.loads(box.cli("queue", "retry", "--sends", "--json").stdout)
        assert sorted(said["sends"]) == sorted(job.stem for job in jobs)
        box.wait(lambda: len(list((tmp_path / "archive").rglob("*.dcm"))) == 24, "arrival")
    assert box.stop() == 0


@pytest.mark.slow
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_an_archive_that_refuses_gets_everything_once_when_it_does_not(box, tmp_path):
    """An Orthanc that does not know us; status and page say so, across a restart too."""
    box.settings["http"] = {"page": free_port()}
    with Archive(tmp_path / "orthanc", strangers=False) as archive:
        box.settings["watch"]["series_quiet_s"] = 0.5
        box.settings["dicom"] = {"send": str(archive.node)}
        save(box.inbox / "ser", ball())
        box.start()
        box.wait(lambda: box.read_log().count("dicom.not_sent") >= 2, "refusals")
        assert archive.instances() == []
        assert box.stop() == 0
        box.start()  # the next attempt may be an hour away
        box.wait_ready()

        def told():
            return box.status()["dicom"]

        box.wait(lambda: told()["unsent_why"], "why")
        assert told()["unsent"] == 1
        assert "instance 1 of 24; " in told()["unsent_why"][0]
        assert "may not store what LOHI_EDGE sends" in box.cli("status").output
        page = f"http://127.0.0.1:{box.settings['http']['page']}/scans.json"
        box.wait(lambda: b" 1 not sent yet: PACS@127.0.0.1" in get(page), "the page")
        archive.know("LOHI_EDGE")
        box.wait(lambda: told()["unsent"] == 0, "the rest")
        assert told()["unsent_why"] == []
        (receipt,) = box.receipts().values()
        stored = [ds.SOPInstanceUID for ds in archive.instances()]
        assert box.stop() == 0
    (folder,) = box.outbox.rglob("*_desc-synthetic")
    assert receipt["verdict"] != "hold"
    assert len(stored) == len(set(stored)) == len(list(folder.iterdir())) + 1  # and its sheet


@pytest.mark.slow
def test_the_network_process_is_started_again_and_the_daemon_goes_on(box, tmp_path):
    node = scanner(box)
    box.start()
    box.wait(lambda: listening(box), "listening")
    pid = box.status()["dicom"]["pid"]
    os.kill(pid, signal.SIGKILL)
    box.wait(lambda: listening(box) and box.status()["dicom"]["pid"] != pid, "another")
    assert send([save(tmp_path / "scan", ball())], node) == 24
    box.wait_states(done=1)
    assert box.stop() == 0


@pytest.mark.slow
def test_another_network_process_takes_no_bare_folder_for_the_inbox(box, tmp_path):
    node, made = scanner(box), save(tmp_path / "scan", ball())
    box.start()
    box.wait(lambda: listening(box), "listening")
    pid = box.status()["dicom"]["pid"]
    away = box.inbox.rename(box.inbox.with_name("unmounted"))
    box.inbox.mkdir()
    os.kill(pid, signal.SIGKILL)
    box.wait(lambda: listening(box) and box.status()["dicom"]["pid"] != pid, "another")
    with pytest.raises(NetworkError, match="0xA700"):
        send([made], node)
    box.inbox.rmdir()
    away.rename(box.inbox)
    assert send([made], node) == 24
    box.wait_states(done=1)
    assert box.stop() == 0


@pytest.mark.slow
def test_another_network_process_knows_what_was_mounted_since(box, tmp_path, tmpfs):
    node, made = scanner(box), save(tmp_path / "scan", ball())
    box.start()
    box.wait(lambda: listening(box), "listening")
    pid = box.status()["dicom"]["pid"]
    tmpfs(box.inbox, 16)
    assert send([made], node) == 24
    box.wait_states(done=1)
    subprocess.run(["umount", "-l", str(box.inbox)], check=True)
    os.kill(pid, signal.SIGKILL)
    box.wait(lambda: listening(box) and box.status()["dicom"]["pid"] != pid, "another")
    with pytest.raises(NetworkError, match="0xA700"):
        send([made], node)
    assert list(box.inbox.iterdir()) == []
    assert box.stop() == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"port": 1}, "callers"),
        ({"port": 1, "callers": ["A_TITLE_TOO_LONG_"]}, "1 to 16 ASCII"),
        ({"port": 1, "callers": ["A"], "title": "B\\C"}, "1 to 16 ASCII"),
        ({"send": ["A@host:1"], "title": "B\\C"}, "1 to 16 ASCII"),
        ({"send": ["nobody"]}, "TITLE@host:port"),
        ({"send": ["M\u00dcLLER@host:1"]}, "1 to 16 ASCII"),
        ({"tls_cert": "c.pem"}, "together"),
    ],
)
def test_settings_that_cannot_work_are_refused(values, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        network.check(load(environ={}, overrides={"dicom": values}))
    # And by the command that looks at them before the daemon does.
    config = tmp_path / "config.toml"
    lines = (f"{key} = {json.dumps(value)}" for key, value in values.items())
    config.write_text("\n".join(("[dicom]", *lines)))
    run = CliRunner().invoke(app, ["settings", "--config", str(config)])
    assert isinstance(run.exception, UsageError)
