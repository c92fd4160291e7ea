"""Where obstore is used, and where boto3 alone is: the same bucket must be meant."""

from types import SimpleNamespace
from typing import Any

import pytest
from obstore.exceptions import GenericError

from artstorefs.elements import s3_quick
from artstorefs.elements.s3_quick import NotThisWay, QuickWay, _endpoint
from artstorefs.elements.s3_settings import S3Settings


def client(endpoint: str) -> Any:
    return SimpleNamespace(meta=SimpleNamespace(endpoint_url=endpoint, region_name="eu-central-1"))


@pytest.mark.parametrize(
    ("bucket", "addressing", "endpoint", "found"),
    [
        ("photos", "path", "http://127.0.0.1:8333", "http://127.0.0.1:8333"),
        ("Photos_1", "path", "https://s3.example.org", "https://s3.example.org"),
        (
            *("photos", "virtual", "https://s3.eu-central-1.amazonaws.com"),
            "https://photos.s3.eu-central-1.amazonaws.com",
        ),
        ("photos", "virtual", "https://example.org:9000", "https://photos.example.org:9000"),
    ],
)
def test_bucket_is_where_boto3_finds_it(
    bucket: str, addressing: Any, endpoint: str, found: str
) -> None:
    assert _endpoint(S3Settings(bucket, addressing=addressing), client(endpoint)) == found


@pytest.mark.parametrize(
    ("settings", "endpoint"),
    [
        (S3Settings("my.photos"), "https://s3.example.org"),
        (S3Settings("Photos"), "https://s3.example.org"),
        (S3Settings("photos"), "http://127.0.0.1:8333"),
        (S3Settings("photos"), "http://[::1]:8333"),
        (S3Settings("photos", addressing="path", ca_bundle="/ca"), "https://s3.example.org"),
    ],
    ids=["dots", "capitals", "address", "IPv6 address", "authority of its own"],
)
def test_what_obstore_would_do_otherwise_is_left_to_boto3(
    settings: S3Settings, endpoint: str
) -> None:
    with pytest.raises(NotThisWay):
        _endpoint(settings, client(endpoint))


def test_what_obstore_does_not_take_is_left_to_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise GenericError("Generic Config error: failed to parse")

    monkeypatch.setattr(s3_quick, "S3Store", refuse)
    settings = S3Settings("photos", addressing="path")
    with pytest.raises(NotThisWay):
        QuickWay(settings, client("http://localhost"), SimpleNamespace(), None)  # type: ignore[arg-type]
