"""The contract may grow but must not break."""

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUF = Path(sysconfig.get_path("scripts")) / "buf"


def breaking(folder):
    command = [BUF, "breaking", folder, "--against", ROOT / "protos" / "baseline.binpb"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


@pytest.fixture
def copy(tmp_path):
    """A copy of the contract to modify."""
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    return tmp_path


def change(copy, before, after):
    path = copy / "protos" / "togetherchat" / "v1" / "chat_service.proto"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_the_contract_is_compatible_with_its_baseline(copy):
    """`buf breaking` reports nothing."""
    assert (0, "") == (breaking(copy).returncode, breaking(copy).stdout)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("optional double temperature", "double temperature", "temperature"),
        ("string prompt_cache_key = 26;", "string prompt_cache_key = 46;", "26"),
        ("rpc ListModels", "rpc ListAllModels", "ListModels"),
        ("  int32 attempts = 9;", "", "attempts"),
    ],
    ids=["optional dropped", "number changed", "RPC renamed", "field removed"],
)
def test_a_breaking_change_is_caught(copy, before, after, expected):
    """A change that would break an already generated client is rejected."""
    change(copy, before, after)
    result = breaking(copy)

    assert 0 != result.returncode
    assert expected in result.stdout


def test_a_new_field_is_compatible(copy):
    """The contract may grow."""
    change(copy, "  int32 attempts = 9;", "  int32 attempts = 9;\n  // New.\n  string news = 11;")

    assert 0 == breaking(copy).returncode
