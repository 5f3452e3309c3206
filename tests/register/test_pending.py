"""Whether a candidate still has to be registered or promoted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.toyworld import set_params

from tasks import paths
from tasks.config import load_config
from tasks.promote.stage import promote
from tasks.register import stage
from tasks.register.pending import pending

pytestmark = pytest.mark.usefixtures("warm")


def test_pending_ends_when_the_candidate_is_registered_and_promoted(judged: Path) -> None:
    assert pending(load_config())
    stage.run(load_config())
    assert pending(load_config()), "it passed, and nobody has to approve it"
    promote(load_config(), 1, why="passed", expected_champion=None)
    assert not pending(load_config())
    (paths.CACHE / "mirrored.json").unlink()
    assert pending(load_config()), "the promotion was killed before the alias moved"


def test_pending_leaves_a_waiting_candidate_to_people(judged: Path) -> None:
    set_params(seed=1, promote={"approval": "required"})
    stage.run(load_config())
    assert not pending(load_config())


def test_pending_loads_nothing_heavy(judged: Path) -> None:
    code = "import sys\nfrom tasks.register.pending import pending\npending()\n"
    code += "print([m for m in ('torch', 'mlflow', 'dvc', 'pyarrow', 'pandas') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
