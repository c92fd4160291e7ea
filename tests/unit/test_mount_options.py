"""`mount -o`: what is taken, ignored and refused."""

import pytest

from artstorefs.core.errors import ConfigurationError
from artstorefs.core.mount_options import MountOptions, parse_mount_options


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", MountOptions()),
        ("rw", MountOptions()),
        ("ro", MountOptions(read_only=True)),
        ("ro,rw", MountOptions(read_only=False)),
        ("allow_other", MountOptions(allow_other=True)),
        ("allow_root", MountOptions(allow_root=True)),
        ("default_permissions,debug", MountOptions(debug=True)),
        ("rw,noexec,nosuid,nodev", MountOptions(noexec=True, nosuid=True, nodev=True)),
        ("nosuid,suid,nodev,dev,noexec,exec", MountOptions()),
        ("defaults,noauto,nofail,_netdev,user,comment=a=b", MountOptions()),
        ("noatime,relatime,nodiratime,lazytime,async", MountOptions()),
        (
            "rw,relatime,user_id=0,group_id=0,max_read=131072,default_permissions,remount,ro",
            MountOptions(read_only=True, remount=True),
        ),
        ("x-systemd.automount,x-systemd.mount-timeout=60,X-mount.mkdir,,ro", MountOptions(True)),
    ],
)
def test_options_are_mapped_or_ignored(text: str, options: MountOptions) -> None:
    assert parse_mount_options(text) == options


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ro,alow_other", "-o: alow_other: is not a mount option; did you mean allow_other?"),
        ("_netdv", "did you mean _netdev?"),
        ("user_id=0", "-o: user_id: is not a mount option"),
        ("sync", "did you mean async?"),
        ("password=1", "-o: password: is not a mount option; allowed: ro, rw, allow_other"),
        ("ro=yes", '-o: ro: takes no value, but was given "yes"'),
        ("allow_other,allow_root", "-o: allow_root: cannot be combined with allow_other"),
    ],
)
def test_other_options_are_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_mount_options(text)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_remount_changes_what_it_says() -> None:
    before = MountOptions(read_only=True, noexec=True)
    wanted = parse_mount_options("remount,rw,nosuid", before)
    assert wanted == MountOptions(noexec=True, nosuid=True, remount=True)


def test_sloppy_ignores_what_is_unknown() -> None:
    assert parse_mount_options("rox,ro", sloppy=True) == MountOptions(read_only=True)
