"""`status` as metrics: every number is there, they are those of METRICS.md, a parser reads them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from artstorefs_daemon.metrics.families import StatusCollector

from .status_sample import status

DAEMON = Path(__file__).parents[2] / "daemon"
DOCUMENT = (DAEMON / "METRICS.md").read_text(encoding="utf-8")
MONITORING = DAEMON / "monitoring"
SUFFIX = re.compile(r"_(bucket|count|sum)$")
NAME = re.compile(r"\bartstorefs_\w+")


def described() -> dict[str, tuple[str, list[str]]]:
    """Of each metric in METRICS.md its type, and its labels without `archive`."""
    rows = re.findall(r"^\| `(artstorefs_\w+)` \| (\w+) \|(.*?)\|", DOCUMENT, re.MULTILINE)
    return {name: (kind, re.findall(r"`(\w+)`", labels)) for name, kind, labels in rows}


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Number by the name of the sample and the values of its labels but `archive`, by label."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels["archive"] == "museum"
            labels = sorted(item for item in sample.labels.items() if item[0] != "archive")
            key = (sample.name, *(value for _, value in labels))
            assert key not in found
            found[key] = sample.value
    return found


def rendered(told: dict[str, Any] | None) -> str:
    return generate_latest(StatusCollector("museum", told, 1234.5)).decode()


ARCHIVED = {
    ("artstorefs_element_archived_files", "main"): 1200,
    ("artstorefs_element_archived_bytes", "main"): 3 << 20,
    ("artstorefs_element_offline_files", "main"): 1000,
    ("artstorefs_element_offline_bytes", "main"): 2 << 20,
    ("artstorefs_element_recalling_files", "main"): 3,
    ("artstorefs_element_recalling_bytes", "main"): 1 << 20,
    ("artstorefs_element_recalled_files", "main"): 5,
    ("artstorefs_element_recalled_bytes", "main"): 4096,
    ("artstorefs_element_recall_failed_files", "main"): 1,
    ("artstorefs_element_recall_oldest_age_seconds", "main"): 7200.5,
    ("artstorefs_element_medium_wanted", "main"): 1,
}


def test_every_number_of_a_status_is_told() -> None:
    found = samples(rendered(status()))
    name = "artstorefs_operation_duration_seconds"
    assert [found[f"{name}_bucket", "getxattr", bound] for bound in ("0.001", "0.1", "+Inf")] == [
        *(7, 9, 10)
    ]
    assert (found[f"{name}_count", "getxattr"], found[f"{name}_sum", "getxattr"]) == (10, 0.5)
    expected = {
        ("artstorefs_build_info", "9.8.7"): 1,
        ("artstorefs_up",): 1,
        ("artstorefs_status_timestamp_seconds",): 1234.5,
        ("artstorefs_start_time_seconds",): 1767323045,
        ("artstorefs_recovery_duration_seconds",): 1.25,
        ("artstorefs_read_only",): 0,
        ("artstorefs_index_damaged",): 0,
        ("artstorefs_index_backup_age_seconds",): 60,
        ("artstorefs_index_backup_interval_seconds",): 3600,
        ("artstorefs_index_backup_current",): 1,
        ("artstorefs_operation_duration_max_seconds", "getxattr"): 0.25,
        ("artstorefs_operation_errors_total", "ENODATA", "getxattr"): 9,
        ("artstorefs_nodes",): 12345,
        ("artstorefs_queue_changes",): 3,
        ("artstorefs_queue_bytes",): 3 << 20,
        ("artstorefs_queue_oldest_age_seconds",): 4.5,
        ("artstorefs_queue_failed_changes",): 1,
        ("artstorefs_damaged_files",): 1,
        ("artstorefs_quarantined_documents",): 1200,
        ("artstorefs_spool_bytes",): 3 << 20,
        ("artstorefs_spool_limit_bytes",): 50 << 30,
        ("artstorefs_cache_bytes",): 7 << 20,
        ("artstorefs_cache_limit_bytes",): 40 << 30,
        ("artstorefs_expiring_files",): 1200,
        ("artstorefs_expiring_bytes",): 3 << 20,
        ("artstorefs_expiring_first_removal_timestamp_seconds",): 1767927845,
        ("artstorefs_expiring_paused",): 0,
        ("artstorefs_expired_files_total",): 0,
        ("artstorefs_element_info", "far", "s3", "rw", "2"): 1,
        ("artstorefs_element_state", "main", "ok"): 1,
        ("artstorefs_element_state", "far", "ok"): 0,
        ("artstorefs_element_state", "far", "unavailable"): 1,
        ("artstorefs_element_room", "main", "ok"): 1,
        ("artstorefs_element_room", "far", "unknown"): 1,
        ("artstorefs_element_breaker", "far", "half-open"): 1,
        ("artstorefs_element_breaker", "far", "closed"): 0,
        ("artstorefs_element_size_bytes", "main"): 1 << 40,
        ("artstorefs_element_free_bytes", "main"): 1 << 39,
        ("artstorefs_element_queue_changes", "main"): 2,
        ("artstorefs_element_queue_oldest_age_seconds", "main"): 4.5,
        ("artstorefs_element_queue_oldest_age_seconds", "far"): 0,
        **ARCHIVED,
        ("artstorefs_element_calls_total", "put", "main"): 1200,
        ("artstorefs_element_call_seconds_total", "put", "main"): 1.5,
        ("artstorefs_element_call_max_seconds", "put", "main"): 0.5,
        ("artstorefs_element_sent_bytes_total", "main"): 3 << 20,
        ("artstorefs_element_received_bytes_total", "main"): 512,
        ("artstorefs_element_errors_total", "main", "ElementFull"): 2,
        ("artstorefs_element_requests_total", "far", "PutObject"): 7,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert {SUFFIX.sub("", key[0]) for key in found} == {
        *(key[0] for key in expected),
        "artstorefs_operation_duration_seconds",
    }


def test_what_there_is_not_is_not_told_as_zero() -> None:
    found = samples(rendered(status()))
    assert ("artstorefs_element_breaker", "main", "closed") not in found
    assert ("artstorefs_element_size_bytes", "far") not in found
    never = {"age_s": None, "interval_s": 0.0, "is_current": False}
    found = samples(rendered(status(backup=never)))
    assert found["artstorefs_index_backup_age_seconds",] == float("inf")
    none = {"files": 0, "bytes": 0, "first_removal": None, "removed": 7, "paused": "the clock"}
    found = samples(rendered(status(expiring=none, archived=[])))
    assert ("artstorefs_expiring_first_removal_timestamp_seconds",) not in found
    assert ("artstorefs_element_archived_files", "main") not in found
    assert found["artstorefs_element_medium_wanted", "main"] == 1
    assert (found["artstorefs_expiring_paused",], found["artstorefs_expired_files_total",]) == (
        *(1, 7),
    )


def test_daemon_that_does_not_answer_is_down() -> None:
    found = samples(rendered(None))
    assert found["artstorefs_up",] == 0
    assert {name for name, *_ in found} == set(list(described())[:3])


def test_damage_and_a_mount_for_reading_only() -> None:
    found = samples(rendered(status(index_error="malformed", read_only=True)))
    assert (found["artstorefs_index_damaged",], found["artstorefs_read_only",]) == (1, 1)


def test_document_has_each_metric_with_type_and_labels() -> None:
    made = {}
    for family in StatusCollector("museum", status(), 0.0).collect():
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = {label for sample in family.samples for label in sample.labels}
        kind = "gauge" if family.type == "info" else family.type
        made[name] = (kind, sorted(labels - {"archive", "le"}))
    assert made == {name: (kind, sorted(labels)) for name, (kind, labels) in described().items()}
    assert list(made) == list(described())


def test_names_follow_the_conventions_of_prometheus() -> None:
    """https://prometheus.io/docs/practices/naming/"""
    for name, (kind, _) in described().items():
        assert (kind == "counter") == name.endswith("_total")
        assert not re.search(r"_(ms|milliseconds|kb|mib|s)(_|$)", name)


def test_openmetrics_too() -> None:
    encode, content_type = choose_encoder("application/openmetrics-text; version=1.0.0")
    text = encode(StatusCollector("museum", status(), 0.0)).decode()
    assert "openmetrics" in content_type
    assert {family.name for family in read_openmetrics(text)} > {"artstorefs_up"}


def test_name_of_an_element_cannot_break_a_line() -> None:
    """Names are checked where they are configured; what comes after them is not ours to trust."""
    told = status()
    told["elements"][0]["counters"]["errors"] = {'a"b\\c\nartstorefs_up 7': 3}
    found = samples(rendered(told))
    assert found["artstorefs_element_errors_total", "main", 'a"b\\c\nartstorefs_up 7'] == 3
    assert found["artstorefs_up",] == 1


# --------------------------------------------------------------------- alerts and a dashboard


def expressions_of_alerts() -> list[str]:
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))
    return [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


def expressions_of_dashboard() -> list[str]:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    variables = [one["query"] for one in dashboard["templating"]["list"]]
    return variables + [
        target["expr"] for panel in dashboard["panels"] for target in panel["targets"]
    ]


@pytest.mark.parametrize(
    "expression",
    [*expressions_of_alerts(), *expressions_of_dashboard()],
    ids=lambda text: text[:60],
)
def test_samples_name_only_metrics_labels_and_values_that_there_are(expression: str) -> None:
    known = described()
    for name in NAME.findall(expression):
        base = SUFFIX.sub("", name)
        if base != name:
            assert known[base][0] == "histogram"
        assert base in known
    labels = {label for _, labels in known.values() for label in labels} | {"archive", "le"}
    assert set(re.findall(r"(\w+)!?=~?\"", expression)) <= labels
    states = set(re.findall(r'"([a-z-]+)"', rendered(status())))
    assert set(re.findall(r'(?:state|room)="([a-z-]+)"', expression)) <= states


def test_alerts_are_there_for_everything_that_somebody_has_to_act_on() -> None:
    named = set(NAME.findall(" ".join(expressions_of_alerts())))
    assert named >= {
        "artstorefs_up",
        "artstorefs_queue_oldest_age_seconds",
        "artstorefs_queue_failed_changes",
        "artstorefs_element_breaker",
        "artstorefs_element_room",
        "artstorefs_spool_bytes",
        "artstorefs_damaged_files",
        "artstorefs_index_backup_age_seconds",
        "artstorefs_expiring_paused",
        "artstorefs_expiring_files",
        "artstorefs_element_medium_wanted",
        "artstorefs_element_recall_failed_files",
    }
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
