"""An objective of the user's own, as docs/extend.md shows it: trained by the normal stage, and its edit seen by DVC."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support.project import REPOSITORY, params, write_params
from support.toy_training import prepare, trained_digest

from tasks import paths
from tasks.config import PipelineConfig, load_config
from tasks.errors import ConfigError
from tasks.finetune import stage
from tasks.finetune.loop.checkpoints import checkpoint_folder
from tasks.runtime.files import read_json
from tasks.runtime.plugins import unload_plugins
from tasks.vcs.dvc_pipeline import changed_stages, reproduce
from tasks.vcs.dvc_plugins import record_plugins

SECTION = (REPOSITORY / "docs/extend.md").read_text(encoding="utf-8").split("\n## An objective\n")[1].split("\n## ")[0]
MODULES = re.findall(r"```python\n# (\S+)\n(.*?)```", SECTION, re.DOTALL)
(SETTINGS,) = (YAML(typ="safe").load(text) for text in re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL))


@pytest.fixture
def written(project: Path, tiny_gpt2: Path) -> Iterator[Path]:
    """A project with rendered rows and the modules of the page."""
    prepare(project, tiny_gpt2)
    for name, code in MODULES:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(code)
    yield tiny_gpt2
    unload_plugins()


def settings_of_page(base: Path, **finetune: Any) -> PipelineConfig:
    finetune = {"precision": "fp32", **SETTINGS["finetune"], **finetune}
    write_params(Path(), {**params(base, [], finetune=finetune), "plugins": SETTINGS["plugins"]})
    return load_config()


def key_of_checkpoints(config: PipelineConfig) -> str:
    with checkpoint_folder(config, "base") as folder:
        return folder.name


def test_the_objective_of_the_page_is_trained_and_its_edit_makes_the_stage_run_again(written: Path) -> None:
    config = settings_of_page(written)
    record_plugins()
    assert reproduce("finetune")
    assert read_json(paths.TRAINING_REPORT)["objective"] == "anchored"
    assert "finetune" not in changed_stages()
    before = key_of_checkpoints(config)
    module = Path("my_package/anchored.py")
    module.write_text(module.read_text().replace("w.square()", "w.abs()"))
    assert changed_stages()["finetune"] == ["my_package/anchored.py (modified)"]
    assert not any(
        "my_package" in change for name in ("render", "evaluate") for change in changed_stages().get(name, ())
    )
    assert key_of_checkpoints(load_config()) != before


def test_it_equals_sft_without_the_penalty_and_only_then(project: Path, written: Path) -> None:
    stage.run(prepare(project, written))
    plain = trained_digest()
    stage.run(settings_of_page(written, options={"strength": 0.0}))
    assert trained_digest() == plain
    stage.run(settings_of_page(written, options={"strength": 1.0}))
    assert trained_digest() != plain


def test_its_name_and_its_settings_are_checked_with_the_others(written: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_of_page(written, objective="anchord")
    assert '`finetune.objective`: "anchord" is not an objective; did you mean `anchored`? There are sft, ' in str(
        caught.value
    )
    with pytest.raises(ConfigError, match=r"`finetune`: options.strength: Input should be a valid number"):
        settings_of_page(written, options={"strength": "high"})
    with pytest.raises(ConfigError, match=r"`finetune`: options.weight: Extra inputs are not permitted"):
        settings_of_page(written, options={"weight": 1})
    with pytest.raises(ConfigError, match="options are for objectives of plugins, and objective: sft has none"):
        settings_of_page(written, objective="sft")


def test_an_entry_with_an_unknown_data_format_is_reported_with_its_line(written: Path) -> None:
    table = Path("my_package/strop.py")
    table.write_text(table.read_text().replace('form="answers"', 'form="answer"'))
    with pytest.raises(ConfigError) as caught:
        settings_of_page(written)
    assert "my_package/strop.py line " in str(caught.value)
    assert "`form` of the objective is 'answer'; it may be answers, texts, labels, pairs" in str(caught.value)


def test_the_name_is_unknown_without_the_plugin(project: Path, tiny_gpt2: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare(project, tiny_gpt2, objective="anchored")
    assert (
        '`finetune.objective`: "anchored" is not an objective; there are '
        "sft, pretrain, classify, dpo, orpo, kto, reward, grpo, distill"
    ) in str(caught.value)
