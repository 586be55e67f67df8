"""The files for servers: dashboard, alerts and compose name only what there is.

Nothing here starts Docker, Prometheus or Grafana: what can be known without them is checked.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from orderbell.observe.figures import GAUGES, HISTOGRAMS, PREFIX, TALLIES
from orderbell.settings import Settings, read_settings
from tests.house.tree import PACKAGE, ROOT

OPS = ROOT / "ops"
LABELS_OF_PROMETHEUS = {"instance", "job"}
OF_THE_PROCESS: dict[str, set[str]] = {
    "process_cpu_seconds_total": set(),
    "process_resident_memory_bytes": set(),
    "up": set(),
}


def known() -> dict[str, set[str]]:
    """Every series that `/metrics` may give, with its labels."""
    found: dict[str, set[str]] = {f"{PREFIX}{name}_total": set(one.labels) for name, one in TALLIES.items()}
    found |= {f"{PREFIX}{name}": set(one.labels) for name, one in GAUGES.items()}
    for name, one in HISTOGRAMS.items():
        found[f"{PREFIX}{name}_bucket"] = {*one.labels, "le"}
        found |= {f"{PREFIX}{name}_{end}": set(one.labels) for end in ("sum", "count")}
    return found | OF_THE_PROCESS


def counted() -> str:
    """The names of `orderbell_counts_total`, as the code has them."""
    return "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))


def expressions() -> Iterator[tuple[str, str]]:
    """Every query of the dashboard and of the alerts, with where it stands."""
    board = json.loads((OPS / "grafana.json").read_text(encoding="utf-8"))
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield f"grafana: {panel['title']}", target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield f"grafana: {variable['name']}", variable["query"]["query"]
    for group in yaml.safe_load((OPS / "alerts.yaml").read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            yield f"alerts: {rule['alert']}", rule["expr"]


QUERIES = list(expressions())


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=[where for where, _ in QUERIES])
def test_queries_name_figures_that_exist(where: str, query: str) -> None:
    """A metric, a label of it or a value of `what` that nobody writes would never alert anybody."""
    series = known()
    bare = re.sub(r'"[^"]*"', '""', query)
    names = set(re.findall(r"\b(?:orderbell|process)_\w+|\bup\b", bare))
    assert names
    assert names <= set(series), names - set(series)
    for name, matched in re.findall(r"((?:orderbell|process)_\w+)\{([^}]*)\}", query):
        labels = set(re.findall(r"(\w+)\s*[=!]~?", matched))
        assert labels <= series[name] | LABELS_OF_PROMETHEUS, (name, labels)
    grouped = {label.strip() for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", bare) for label in group.split(",")}
    allowed = set().union(*(series[name] for name in names)) | LABELS_OF_PROMETHEUS
    assert grouped <= allowed, grouped - allowed
    for what in re.findall(r'what="([^"]+)"', query):
        assert f'"{what}"' in counted(), what
    for lane in re.findall(r'lane="([^"]+)"', query):
        assert lane in {"critical", "service", "marketing"}
    for bound in re.findall(r'le="([^"]+)"', query):
        assert bound in {repr(one) for family in HISTOGRAMS.values() for one in family.bounds}, bound
    assert query.count("(") == query.count(")")


def test_alerts_say_what_to_do() -> None:
    """Each alert has a name of its own, a severity, and words for whoever is woken by it."""
    (group,) = yaml.safe_load((OPS / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    assert len(set(names)) == len(names) >= 15
    for rule in group["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    """Every panel has an id and a place of its own, and its data source is a variable."""
    panels = json.loads((OPS / "grafana.json").read_text(encoding="utf-8"))["panels"]
    assert len({one["id"] for one in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for one in panels:
        at = one["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & cells, one["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert one["type"] == "row" or one["datasource"]["uid"] == "${datasource}"


def compose() -> dict[str, Any]:
    """The compose file."""
    read: dict[str, Any] = yaml.safe_load((OPS / "compose.yaml").read_text(encoding="utf-8"))
    return read


def test_compose_names_only_what_it_defines() -> None:
    """Secrets, volumes and services that are used are there; every service is watched and comes back."""
    file = compose()
    assert set(file) == {"name", "services", "secrets", "volumes"}
    services = file["services"]
    assert set(services) == {"database", "web", "worker", "backup"}
    for name, service in services.items():
        assert set(service.get("secrets", ())) <= set(file["secrets"]), name
        assert {one.partition(":")[0] for one in service.get("volumes", ())} <= set(file["volumes"]), name
        assert set(service.get("depends_on", ())) <= set(services), name
        assert all(one == {"condition": "service_healthy"} for one in service.get("depends_on", {}).values())
        assert service["restart"] == "unless-stopped"
        test = service["healthcheck"]["test"]
        assert test[0] in {"CMD", "CMD-SHELL"}
        for at in service.get("ports", ()):
            assert at.startswith("127.0.0.1:"), "what listens without TLS is reached from this machine only"
    for name, path in (("web", "8470/readyz"), ("worker", "9470/readyz")):
        assert path in services[name]["healthcheck"]["test"][-1]
    assert {one["file"].partition("/")[0] for one in file["secrets"].values()} == {"secrets"}
    assert "/ops/secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


def test_compose_sets_settings_that_exist(tmp_path: Path) -> None:
    """What the services set, and the settings file that the head of the file shows, are read without complaint."""
    environment: dict[str, str] = {}
    for name in ("web", "worker"):
        environment |= compose()["services"][name]["environment"]
    ours = {name: value for name, value in environment.items() if name != "ORDERBELL_SETTINGS"}
    head = (OPS / "compose.yaml").read_text(encoding="utf-8")
    shown = re.findall(r"^#   (\w+ = \"[^\n]+)$", head, flags=re.MULTILINE)
    file = tmp_path / "orderbell.toml"
    file.write_text("\n".join(re.sub(r'"\$\(openssl rand -hex \d+\)"', f'"{"ab" * 32}"', line) for line in shown))
    settings = read_settings(file, ours)
    assert (settings.metrics_host, settings.metrics_port) == ("0.0.0.0", 9470)  # noqa: S104 - inside its container
    assert settings.database_url.startswith("postgresql://orderbell:")
    assert set(Settings.__struct_fields__) >= {line.partition(" ")[0] for line in shown}


def test_image_is_made_from_files_that_exist() -> None:
    """What the Dockerfile copies is in the repository and is not kept out by its ignore file."""
    lines = (OPS / "Dockerfile").read_text(encoding="utf-8").splitlines()
    allowed = {
        line[1:] for line in (OPS / "Dockerfile.dockerignore").read_text(encoding="utf-8").split() if line[0] == "!"
    }
    copied = {name for line in lines if line.startswith("COPY") and "--from" not in line for name in line.split()[1:-1]}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)
    assert "USER orderbell" in lines
    environment = {
        name
        for name in re.findall(r"\b(ORDERBELL_\w+)=", "\n".join(lines))
        if name.removeprefix("ORDERBELL_").lower() not in Settings.__struct_fields__
    }
    assert environment == set()
