"""Settings: which layer wins, and how a wrong one is refused."""

from __future__ import annotations

import pytest

from lohi_edge.errors import UsageError
from lohi_edge.settings import Settings, load


def test_nothing_given_is_the_defaults(tmp_path, monkeypatch):
    monkeypatch.setattr("lohi_edge.settings.SYSTEM_FILE", tmp_path / "none.toml")
    assert load(environ={}) == Settings()


def test_later_layers_win(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("[watch]\ninterval_s = 2\noriginals = 'move'\n[disk]\nreserve_gb = 5\n")
    env = {"LOHI_EDGE_WATCH_INTERVAL_S": "3", "LOHI_EDGE_ENHANCE_THREADS": "2", "HOME": "/"}
    got = load(file, env, {"watch": {"interval_s": 4.0}})
    assert got.watch.interval_s == 4.0
    assert got.watch.originals == "move"
    assert got.disk.reserve_gb == 5.0
    assert got.enhance.threads == 2


def test_the_file_named_by_the_environment_is_read(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("[watch]\nhook = ['notify', '--fast']\n")
    assert load(environ={"LOHI_EDGE_CONFIG": str(file)}).watch.hook == ("notify", "--fast")


def test_text_of_the_environment_becomes_what_the_key_holds():
    env = {
        "LOHI_EDGE_WATCH_EVENTS": "false",
        "LOHI_EDGE_WATCH_HOOK": "notify 'two words'",
        "LOHI_EDGE_ENHANCE_THREADS": "",
        "LOHI_EDGE_HTTP_PORT": "8064",
        "LOHI_EDGE_FAULT": "not a setting",
        "LOHI_EDGE_CACHE": "not a setting of this module",
    }
    got = load(environ=env)
    assert got.watch.events is False
    assert got.watch.hook == ("notify", "two words")
    assert got.enhance.threads is None
    assert got.http.port == 8064


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[watch]\nintervall_s = 1\n", "did you mean 'interval_s'"),
        ("[wach]\ninbox = 'x'\n", "did you mean 'watch'"),
        ("watch = 3\n", "section"),
        ("[watch]\ninterval_s = 'fast'\n", "expected float"),
        ("[watch]\ninterval_s = true\n", "expected float"),
        ("[watch]\ninterval_s = 0\n", "0.05 to 3600"),
        ("[watch]\ninterval_s = nan\n", "0.05 to 3600"),
        ("[watch]\noriginals = 'burn'\n", "keep, move, delete"),
        ("[watch]\nhook = [1]\n", "list of text"),
        ("[worker]\nattempts = 0\n", "1 to 100"),
        ("[disk]\nreserve_gb = nan\n", "0 or more"),
        ("[disk]\nreserve_gb = inf\n", "finite number"),
        ("[latency]\ncpu_p95_s = inf\n", "finite number"),
        (f"[watch]\nhook = {'[' * 3000}{']' * 3000}\n", "nested too deeply"),
        ("[enhance]\ncontrast = 'PD'\n", "T1w"),
        ("[http]\nport = 99999\n", "65535"),
        ("no toml", "cannot be used"),
    ],
)
def test_what_is_wrong_is_refused_in_words(tmp_path, text, words):
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=words):
        load(file, {})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("LOHI_EDGE_WATCH_INTERVALL_S", "1", "interval_s"),
        ("LOHI_EDGE_WATCH_EVENTS", "maybe", "true or false"),
        ("LOHI_EDGE_HTTP_PORT", "eighty", "number"),
        ("LOHI_EDGE_WATCH_HOOK", "notify 'two words", "words as in a shell"),
    ],
)
def test_a_wrong_variable_is_refused_in_words(name, value, words):
    with pytest.raises(UsageError, match=words):
        load(environ={name: value})


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot be used"):
        load(tmp_path / "none.toml", {})


def test_the_digest_follows_what_changes_a_result_and_nothing_else():
    def digest(**values):
        return load(environ={}, overrides={"enhance": values}).enhance.digest()

    assert digest() == digest(threads=3) == digest(bundle="/elsewhere")
    assert len({digest(), digest(grid="native"), digest(prefer="qform")}) == 3


LIMITS = '{"scan": {"T1w": {"slices": {"hold": [%d, null]}}}}'


def test_limits_are_what_their_file_held_when_the_settings_were_read(tmp_path):
    file = tmp_path / "limits.json"
    plain = load(environ={}).enhance
    env = {"LOHI_EDGE_ENHANCE_LIMITS": str(file)}
    file.write_text(LIMITS % 10)
    first = load(environ=env).enhance
    file.write_text(LIMITS % 20)
    second = load(environ=env).enhance
    assert len({plain.digest(), first.digest(), second.digest()}) == 3
    file.write_text((LIMITS % 10).replace(" ", ""))
    assert load(environ=env).enhance == first


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "found nothing"),
        ("{", "JSON"),
        ('{"scan": 3}', "docs/reference/quality.md"),
        ('{"scan": {"T1w": {"slics": {}}}}', "did you mean 'slices'"),
    ],
)
def test_unusable_limits_are_refused_in_words(tmp_path, text, words):
    file = tmp_path / "limits.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=f"(?i)enhance.limits: .*{words}"):
        load(environ={}, overrides={"enhance": {"limits": str(file)}})
