from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lohi_edge.errors import BadInput, DiskError, UsageError
from lohi_export import cli


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The console script's exit code."""
    monkeypatch.setattr(sys, "argv", ["lohi-export", *arguments])
    with pytest.raises(SystemExit) as ending:
        cli.main()
    return int(ending.value.code or 0)


def test_help_names_the_commands_and_imports_no_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from lohi_export.cli import app;"
        "print(CliRunner().invoke(app, ['--help']).output); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in ("simulate", "train", "evaluate", "onnx", "bundle"):
        assert f" {command} " in done.stdout


@pytest.mark.parametrize("command", ["train --data d", "morphometry train --bank b"])
def test_no_time_before_now_is_taken_for_a_limit(command: str) -> None:
    words = [*command.split(), "--out", "o", "--max-minutes", "-1"]
    result = CliRunner().invoke(cli.app, words, env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "--max-minutes" in result.output


@pytest.mark.parametrize("words", ["bundle r b --serial 0", "calibrate b --data d --seed -1"])
def test_numbers_that_cannot_be_are_refused_as_usage(words: str) -> None:
    result = CliRunner().invoke(cli.app, words.split(), env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert words.split()[-2] in result.output


@pytest.mark.parametrize("named", ["", ",", "11,,12"])
def test_subjects_without_a_name_are_refused(make_bundle, named: str) -> None:
    words = ["calibrate", str(make_bundle()), "--data", "d", "--subjects", named]
    result = CliRunner().invoke(cli.app, words)
    assert isinstance(result.exception, UsageError)
    assert f"expected --subjects such as 11,12, got {named!r}" in str(result.exception)


def test_a_table_that_cannot_be_written_is_found_before_anything_is_measured(
    tmp_path: Path,
) -> None:
    words = ["morphometry", "evaluate", "d", "--csv", str(tmp_path / "no" / "regions.csv")]
    assert isinstance(CliRunner().invoke(cli.app, words).exception, DiskError)


@pytest.mark.parametrize("command", ["calibrate", "verify"])
def test_subjects_that_the_data_set_lacks_are_named(
    make_bundle, toy: Path, tmp_path: Path, command: str
) -> None:
    words = [command, str(make_bundle()), "--data", str(toy), "--subjects", "04,98,99"]
    result = CliRunner().invoke(cli.app, [*words, "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, BadInput)
    assert "found no pair of 98, 99; name" in str(result.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "command", ["train", "evaluate", "onnx", "bundle", "check-data", "register", "split"]
)
def test_every_command_has_an_example(command: str) -> None:
    result = CliRunner().invoke(cli.app, [command, "--help"])
    assert result.exit_code == 0
    assert f"lohi-export {command}" in " ".join(result.output.split())


def test_help_tells_the_defaults_that_are_written_in_words() -> None:
    result = CliRunner().invoke(cli.app, ["train", "--help"], env={"COLUMNS": "200"})
    assert "[default: DATA/.slices]" in result.output


@pytest.mark.parametrize(
    ("command", "folder", "code", "why"),
    [
        ("train", "--data", 3, "expected pairs of sub-*"),
        ("simulate", "--volumes", 2, "expected --labels FOLDER"),
    ],
)
def test_a_users_error_is_one_line_and_its_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    folder: str,
    code: int,
    why: str,
) -> None:
    arguments = [command, folder, str(tmp_path), "--out", str(tmp_path / "r")]
    assert run(arguments, monkeypatch) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {why}")
    assert not (tmp_path / "r").exists()


def test_evaluate_prints_json(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", str(trained), "--part", "validation", "--json"], monkeypatch) == 0
    (trained / "evaluation.json").unlink()
    assert set(json.loads(capsys.readouterr().out)["subjects"]) == {"03"}


def test_onnx_writes_a_model(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["onnx", str(trained), str(tmp_path / "model.onnx")], monkeypatch) == 0
    assert (tmp_path / "model.onnx").stat().st_size > 1000


def test_onnx_writes_typed_fp16_where_it_is_asked_for(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    out = tmp_path / "fp16.onnx"
    assert run(["onnx", str(trained), str(out), "--precision", "fp16"], monkeypatch) == 0
    model = onnx.load(str(out))
    weights = {i.data_type for i in model.graph.initializer if len(i.dims) == 4}
    assert weights == {onnx.TensorProto.FLOAT16}
    ends = [*model.graph.input, *model.graph.output]
    assert {e.type.tensor_type.elem_type for e in ends} == {onnx.TensorProto.FLOAT}


def test_onnx_of_another_precision_is_a_usage_error(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "int4.onnx"
    assert run(["onnx", str(trained), str(out), "--precision", "int4"], monkeypatch) == 2
    assert not out.exists()
