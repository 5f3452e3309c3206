"""A team's deployment: prefect.yaml refers to existing flows, and mlflow/ has no Python and no other version."""

from __future__ import annotations

import importlib
import re
import subprocess
from typing import Any

from ruamel.yaml import YAML
from support.project import REPOSITORY

from tasks.serve.settings import ServeSettings


def _yaml(name: str) -> Any:
    return YAML(typ="safe").load((REPOSITORY / name).read_text(encoding="utf-8"))


def test_every_deployment_names_a_flow_by_its_module_and_parameters_that_it_takes() -> None:
    for deployment in _yaml("prefect.yaml")["deployments"]:
        module, name = deployment["entrypoint"].rsplit(".", 1)
        flow = getattr(importlib.import_module(module), name)
        assert set(deployment["parameters"]) <= set(flow.parameters.properties), deployment["name"]


def test_one_run_at_a_time_in_the_work_pool_too() -> None:
    weekly = next(d for d in _yaml("prefect.yaml")["deployments"] if d["entrypoint"] == "flows.retrain.retrain")
    assert weekly["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
    assert weekly["schedules"] == [{"cron": "0 2 * * 0", "timezone": "Asia/Shanghai"}]


def test_the_servers_versions_are_those_of_constraints() -> None:
    pins = dict(re.findall(r"^([a-z-]+)==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE))
    image = (REPOSITORY / "mlflow/Dockerfile").read_text()
    assert f'"mlflow[auth]=={pins["mlflow"]}"' in image
    assert f'"psycopg[binary]=={pins["psycopg"]}"' in image
    assert _yaml("prefect.yaml")["prefect-version"] == pins["prefect"]


def test_every_setting_of_the_team_is_in_the_example_and_used() -> None:
    compose = (REPOSITORY / "mlflow/compose.yaml").read_text()
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", compose))
    documented = set(re.findall(r"^([A-Z0-9_]+)=", (REPOSITORY / "mlflow/team.env.example").read_text(), re.MULTILINE))
    assert used == documented
    assert set(_yaml("mlflow/compose.yaml")["services"]) == {"mlflow", "database", "s3", "gateway", "engine"}


def test_the_teams_server_listens_on_loopback_by_default_and_its_secrets_are_in_no_address() -> None:
    server = _yaml("mlflow/compose.yaml")["services"]["mlflow"]
    assert server["ports"] == ["${MLFLOW_BIND:-127.0.0.1}:5000:5000"]
    addresses = [
        value for name, value in server["environment"].items() if name.endswith(("_URI", "_ORIGINS", "_HOSTS"))
    ]
    assert len(addresses) >= 3
    assert not [each for each in addresses if "PASSWORD" in each or "SECRET" in each or "*" in each]
    for script in ("start.sh", "serve.sh"):
        text = (REPOSITORY / "mlflow" / script).read_text()
        assert "--app-name basic-auth" in text
        assert "umask 077" in text


def test_the_gateway_listens_on_loopback_by_default_and_its_engine_on_no_port_of_the_host() -> None:
    services = _yaml("mlflow/compose.yaml")["services"]
    gateway, engine = services["gateway"], services["engine"]
    assert gateway["ports"] == ["${GATEWAY_BIND:-127.0.0.1}:8000:8000"]
    assert "ports" not in engine
    assert (gateway["profiles"], engine["profiles"]) == (["serve", "gpu"], ["gpu"])
    seconds = int(gateway["stop_grace_period"].removesuffix("s"))
    assert seconds > ServeSettings().limits.drain_seconds
    image = (REPOSITORY / "mlflow" / "gateway.Dockerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (.+) \S+$", image, re.MULTILINE) for name in line.split()]
    assert all((REPOSITORY / name).exists() for name in copied)
    assert "HOME=/tmp" in image  # the user has no home there


def test_the_scripts_of_the_registry_are_valid_and_no_python_shadows_mlflow() -> None:
    folder = REPOSITORY / "mlflow"
    for script in folder.glob("*.sh"):
        subprocess.run(["sh", "-n", str(script)], check=True)
    assert list(folder.rglob("*.py")) == []
    import mlflow

    assert "site-packages" in str(mlflow.__file__)


def test_the_flow_is_a_table_of_contents() -> None:
    source = (REPOSITORY / "flows/retrain.py").read_text()
    assert "try:" not in source
    rooms = ("ingest", "validate", "curate", "render", "finetune", "evaluate", "gate", "register")
    matches = [re.search(rf"(\"{room}\"|\b{room}\(config)", source) for room in rooms]
    assert all(matches)
    assert [p.start() for p in matches if p] == sorted(p.start() for p in matches if p)
