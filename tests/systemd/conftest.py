"""A machine with the built wheel, and an archive in it that is a service."""

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from .machine import Machine, interpreter_paths, machine
from .museum import Museum

REPOSITORY = Path(__file__).resolve().parents[2]
OF_THE_WHEEL = (
    "artstorefs",
    "daemon",
    "tools",
    "systemd",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)
ENVIRONMENT = "/opt/artstorefs"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: the libraries that are compiled lie in the source, where others run."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    unwanted = shutil.ignore_patterns("__pycache__", "*.so")
    for name in OF_THE_WHEEL:
        path = REPOSITORY / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=unwanted)
        else:
            shutil.copy(path, source / name)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)]
    subprocess.run(command, cwd=source, check=True, stdout=subprocess.DEVNULL)
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def booted(wheel: Path) -> Iterator[Machine]:
    """A machine on which the wheel is installed, and its units."""
    with machine(interpreter_paths()) as made:
        install(made, wheel)
        yield made


def install(made: Machine, wheel: Path) -> None:
    """Into a virtual environment of its own, which takes what the wheel needs from ours."""
    there = f"/root/{wheel.name}"
    made.path(there).write_bytes(wheel.read_bytes())
    made.run(sys.executable, "-m", "venv", "--without-pip", ENVIRONMENT)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    ours = sysconfig.get_path("purelib")
    made.write(f"{ENVIRONMENT}/lib/{version}/site-packages/needed.pth", f"{ours}\n")
    made.run(
        *(sys.executable, "-m", "pip", "--python", f"{ENVIRONMENT}/bin/python", "install", "-q"),
        *("--no-deps", "--no-index", "--disable-pip-version-check", "--root-user-action=ignore"),
        there,
    )
    made.run(f"{ENVIRONMENT}/bin/artstorefs", "install-units")
    made.run("systemctl", "daemon-reload")


@pytest.fixture
def museum(booted: Machine) -> Museum:
    """The archive museum: its service is enabled, and it is mounted."""
    return Museum(booted).serve()
