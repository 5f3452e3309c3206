"""Makes the plugins of a project inputs of the stages that they can change, for `strop run` and plain `dvc repro` alike.

    record_plugins()                # in the project, before a run
    require_recorded("finetune")    # in a stage

A local plugin's files are dependencies in dvc.yaml, on lines that end with `# plugin`. data/plugins/<stage>.json, which exists from
the first plugin on, has the names of the stage's plugins, and the digests of installed ones, which DVC cannot compare: it changes
when a plugin is removed or upgraded.
"""

from __future__ import annotations

import json
import logging
import re

from tasks import paths
from tasks.errors import ConfigError
from tasks.runtime.files import read_json, write_json, write_text
from tasks.runtime.import_closure import import_closure, module_of
from tasks.runtime.plugin_table import STAGES
from tasks.runtime.plugins import loaded_plugins
from tasks.vcs.dvc_files import parse_yaml, replace_dependencies

logger = logging.getLogger(__name__)

_MARK = " # plugin"
_IS_MARKED = re.compile(rf" *- .*{_MARK}")
LOCAL = "in the project"


def record_plugins() -> None:
    """Writes data/plugins and dvc.yaml, in the working directory, where they differ from the loaded plugins."""
    for stage in filter(_has_changed, STAGES):
        write_json(paths.PLUGINS / f"{stage}.json", _state(stage))
    if (changed := _changed_dvc_yaml()) is not None:
        write_text(paths.DVC_YAML, changed)
        logger.info(f"{paths.DVC_YAML}: the plugins are now inputs of the stages that they can change")


def are_plugins_recorded() -> bool:
    """Whether data/plugins and dvc.yaml match the loaded plugins."""
    return not any(map(_has_changed, STAGES)) and _changed_dvc_yaml() is None


def require_recorded(stage: str) -> None:
    """Checks that DVC compares every loaded plugin that can change the stage.

    Raises:
        ConfigError: dvc.yaml or data/plugins lacks one, or has another state of it.
    """
    fix = "Record it: python -m tasks ingest (strop run does it first)"
    if _has_changed(stage):
        what = f"is not about the present plugins of stage {stage}"
        raise ConfigError(what, where=str(paths.PLUGINS / f"{stage}.json"), fix=fix)
    if not loaded_plugins(stage):
        return
    entry = parse_yaml(paths.DVC_YAML.read_bytes()).get("stages", {}).get(stage) or {}
    if missing := [path for path in dependencies(stage) if path not in (entry.get("deps") or ())]:
        what = f"stage {stage} does not depend on {missing[0]}, which the plugins in {paths.PARAMS} run"
        raise ConfigError(what, where=str(paths.DVC_YAML), fix=f"{fix}, or add it to `deps` by hand")


def dependencies(stage: str) -> list[str]:
    """Paths of files and folders that the stage's plugins make its inputs, sorted, relative to the project."""
    if not _is_used(stage):
        return []
    plugins = loaded_plugins(stage)
    used = [module for plugin in plugins for name in plugin.uses if (module := module_of(name))]
    own = {path.relative_to(plugin.root) for plugin in plugins if plugin.is_local for path in plugin.paths()}
    of_strop = {*import_closure(used)} - {*import_closure([f"tasks/{stage}"])}
    return sorted(path.as_posix() for path in {*own, *of_strop, paths.PLUGINS / f"{stage}.json"})


def _is_used(stage: str) -> bool:
    return bool(loaded_plugins(stage)) or (paths.PLUGINS / f"{stage}.json").exists()


def _state(stage: str) -> dict[str, str]:
    return {plugin.name: LOCAL if plugin.is_local else plugin.digest for plugin in loaded_plugins(stage)}


def _has_changed(stage: str) -> bool:
    """Whether the stage's plugins differ from those in data/plugins."""
    try:
        return _is_used(stage) and read_json(paths.PLUGINS / f"{stage}.json") != _state(stage)
    except (OSError, ValueError):
        return True


def _changed_dvc_yaml() -> str | None:
    """dvc.yaml with the marked lines of the loaded plugins at the end of each stage's dependencies; None if it has them already."""
    if not paths.DVC_YAML.is_file():
        return None
    text = paths.DVC_YAML.read_text(encoding="utf-8")
    changed = replace_dependencies(
        text,
        lambda stage: (f"      - {json.dumps(path) if ' ' in path else path}{_MARK}" for path in dependencies(stage)),
        lambda line: _IS_MARKED.fullmatch(line) is not None,
    )
    return None if changed == text else changed
