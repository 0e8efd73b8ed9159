"""The image's tar and the list of what is bound into a container."""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

import layerline_api
from layerline_api.demo import root


def entries(archive: bytes) -> dict[str, tarfile.TarInfo]:
    """The members of a tar by name."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: member for member in tar.getmembers()}


def test_the_image_is_almost_empty() -> None:
    """The image holds folders, links and three small files: no program, and nothing that is the machine's own."""
    members = entries(root.archive(root.Root({"/bin": "usr/bin"}, ()), 1000, 1000))
    files = {name for name, member in members.items() if member.isfile()}
    assert files == {"etc/passwd", "etc/group", "etc/nsswitch.conf"}
    assert members["bin"].linkname == "usr/bin"
    assert all(members[name].mode == 0o1777 for name in root.WRITABLE)


def test_the_user_of_the_containers_has_a_name() -> None:
    """Whoever runs the demo is a user inside the containers too, so that asking for the home folder finds one."""
    with tarfile.open(fileobj=io.BytesIO(root.archive(root.Root({}, ()), 1234, 99))) as tar:
        passwd = tar.extractfile("etc/passwd")
        assert passwd is not None
        assert b"demo:x:1234:99:demo:/tmp:" in passwd.read()


def test_links_stay_links_and_folders_are_bound(tmp_path: Path) -> None:
    """On a merged-usr machine /bin is a link into /usr: the link goes into the image, the folder is bound once."""
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "venv").mkdir()
    system = [str(tmp_path / name) for name in ("usr", "bin", "missing")]
    plan = root.plan([tmp_path / "venv", tmp_path / "usr/lib/python3", tmp_path / "gone"], system)
    assert plan.links == {str(tmp_path / "bin"): "usr/bin"}
    assert set(plan.binds) == {tmp_path / "usr", tmp_path / "venv"}


def test_no_bind_lies_inside_another() -> None:
    """A folder inside one that is bound already is there already."""
    paths = [Path("/opt/app/lib"), Path("/opt/app"), Path("/opt/application"), Path("/opt/app")]
    assert root.outermost(paths) == (Path("/opt/app"), Path("/opt/application"))


def test_everything_this_interpreter_needs_is_reachable() -> None:
    """Interpreter, standard library, installed packages and our own sources lie inside what is bound."""
    binds = root.plan(root.interpreter_paths()).binds
    needed = [Path(sys.executable), Path(sys.executable).resolve(), Path(io.__file__), Path(layerline_api.__file__)]
    for path in needed:
        assert any(path.is_relative_to(bind) for bind in binds), f"{path} is not inside {binds}"


def test_nothing_private_is_bound() -> None:
    """Neither the home folder, nor /etc, nor Docker's socket is bound into a container."""
    binds = root.plan(root.interpreter_paths()).binds
    for private in (Path.home(), Path("/etc"), Path("/"), Path("/var/run/docker.sock"), Path("/run/docker.sock")):
        assert not any(private.is_relative_to(bind) for bind in binds), private


def test_every_hop_of_a_link_is_followed(tmp_path: Path) -> None:
    """Installers put links between the environment's python and the real one; each must resolve in the container."""
    (tmp_path / "real").touch()
    (tmp_path / "middle").symlink_to("real")
    (tmp_path / "python").symlink_to(tmp_path / "middle")
    assert list(root.hops(tmp_path / "python")) == [tmp_path / name for name in ("python", "middle", "real")]
