"""Which files with credentials are taken."""

import os
from pathlib import Path

import pytest

from artstorefs.core.errors import ElementError
from artstorefs.elements.s3 import S3Element
from artstorefs.elements.s3_settings import S3Settings
from artstorefs.elements.secrets import why_no_secret


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    path.touch(0o600)
    path.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_file_of_ours_alone_is_taken(credentials: Path, mode: int) -> None:
    credentials.chmod(mode)
    assert why_no_secret(str(credentials), environment={}) is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o666, 0o610])
def test_file_that_others_reach_is_refused(credentials: Path, mode: int) -> None:
    credentials.chmod(mode)
    reason = why_no_secret(str(credentials), environment={})
    assert reason is not None
    assert reason.endswith(f"({mode:04o}); chmod 600 {credentials}")


def test_file_of_another_is_refused_and_that_of_root_is_not(credentials: Path) -> None:
    uid = os.geteuid()
    assert why_no_secret(str(credentials), uid, environment={}) is None
    reason = why_no_secret(str(credentials), uid + 1, environment={})
    assert (reason is None) == (uid == 0)
    if uid == 0:
        os.chown(credentials, 65_001, -1)
        assert "belongs to user 65001" in (why_no_secret(str(credentials), environment={}) or "")


def test_credential_of_the_service_manager_is_taken(credentials: Path, tmp_path: Path) -> None:
    """It has an access list for the service's user, so stat(2) shows rights of a group."""
    credentials.chmod(0o440)
    given = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert why_no_secret(str(credentials), environment=given) is None
    elsewhere = {"CREDENTIALS_DIRECTORY": str(tmp_path / "other")}
    assert why_no_secret(str(credentials), environment=elsewhere) is not None


def test_element_is_not_asked_with_a_secret_that_others_know(credentials: Path) -> None:
    """Whatever the server is: nothing goes there."""
    credentials.chmod(0o644)
    settings = S3Settings(
        "photos", endpoint="http://127.0.0.1:9", credentials_file=str(credentials)
    )
    element = S3Element("bucket", settings)
    with pytest.raises(ElementError, match="may be read by others") as refused:
        element.capacity()
    assert f"chmod 600 {credentials}" in str(refused.value)
    assert "no connection" not in str(refused.value)
    with pytest.raises(ElementError, match="may be read by others"):
        element.stat("a")
