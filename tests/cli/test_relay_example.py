"""The container file and the manifest of `examples/relay`: what they name exists."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import yaml

from converra import config
from converra.cli.commands import relay as relay_module

FOLDER = Path(__file__).parents[2] / "examples" / "relay"
DOCUMENTED = (Path(__file__).parents[2] / "docs" / "reference" / "settings.md").read_text()


def test_the_manifest_and_the_container_file_fit_the_relay() -> None:
    """Probes ask the port that a relay opens; variables are settings; a pod ends within its grace period."""
    deployment, budget = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
    assert (deployment["kind"], budget["kind"]) == ("Deployment", "PodDisruptionBudget")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == budget["spec"]["selector"]["matchLabels"] == labels
    assert budget["spec"]["minAvailable"] < deployment["spec"]["replicas"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"health": relay_module.HEALTH_PORT}
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "health"}
    names = [variable["name"] for variable in container["env"]]
    assert [name for name in names if f"`{name}`" not in DOCUMENTED] == []
    seconds = next(each["value"] for each in container["env"] if each["name"] == "CONVERRA_SHUTDOWN_TIMEOUT")
    assert (
        config.load({}, {"CONVERRA_SHUTDOWN_TIMEOUT": seconds}).shutdown_timeout < pod["terminationGracePeriodSeconds"]
    )

    lines = [line for line in (FOLDER / "Containerfile").read_text().splitlines() if not line.startswith("#")]
    steps = {name: rest for name, _, rest in (line.partition(" ") for line in lines)}
    assert (int(steps["EXPOSE"]), steps["USER"]) == (relay_module.HEALTH_PORT, "10001")
    program, command, *options = json.loads(steps["ENTRYPOINT"])
    assert (program, command) == ("converra", "relay")
    with relay_module.relay.make_context("relay", options) as context:
        assert context.params["health_host"] == "0.0.0.0"  # noqa: S104 - in a container


def test_the_container_file_copies_what_the_package_is_built_of(tmp_path: Path) -> None:
    """It installs from the checkout: the package index has another package of this name."""
    root = FOLDER.parents[1]
    lines = (FOLDER / "Containerfile").read_text().splitlines()
    for line in lines:
        match line.split():
            case ["COPY", "src", "src"]:
                shutil.copytree(root / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
            case ["COPY", *names, folder]:
                (tmp_path / folder).mkdir(exist_ok=True)
                for name in names:
                    shutil.copy(root / name, tmp_path / folder)
            case _:
                pass
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel"], cwd=tmp_path, check=True)
    (wheel,) = (tmp_path / "dist").glob("converra-*.whl")
    assert "converra/cli/quickstart.py" in zipfile.ZipFile(wheel).namelist()
    assert any(line.startswith('RUN pip install --no-cache-dir ".[redis,server]" ') for line in lines)
