"""Which container a process is in: every path an engine writes, and everything that merely looks like an id."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerline.cgroup import Cgroup, is_machine_root, parse_mounts, parse_paths
from layerline.container import Identity, identify, in_path, inside_one, reported

HYBRID = Path(__file__).parent / "captured/cgroup-hybrid-kernel-6.18/inside"
ID = "05387d400547ce9b00e7646fd40636edf59567afb7ceabf3bfb7b838230b118e"
OTHER = "4f2a" * 16
FARGATE = f"{OTHER[:32]}-2495160603"

CGROUP2 = "30 23 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw"


def at(cgroup: str = "0::/\n", mountinfo: str = CGROUP2, root: Path = Path("/nowhere")) -> Cgroup:
    return Cgroup(parse_paths(cgroup), parse_mounts(mountinfo), root)


def mounted(source: str, at: str = "/etc/hostname") -> str:
    return f"{CGROUP2}\n92 72 254:0 {source} {at} rw,relatime - ext4 /dev/vda rw,discard"


@pytest.mark.parametrize(
    "path",
    [
        f"/docker/{ID}",  # Docker, cgroupfs driver
        f"/system.slice/docker-{ID}.scope",  # Docker, systemd driver
        f"/machine.slice/libpod-{ID}.scope",  # Podman
        f"/machine.slice/libpod-{ID}.scope/container",  # Podman on v2 has one more level
        f"/libpod_parent/libpod-{ID}",  # Podman, cgroupfs driver
        f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope",  # rootless
        f"/kubepods/burstable/pod1f2e/{ID}",  # Kubernetes, cgroupfs driver
        f"/kubepods.slice/kubepods-pod1f2e.slice/cri-containerd-{ID}.scope",  # containerd
        f"/kubepods.slice/kubepods-pod1f2e.slice:cri-containerd:{ID}",  # containerd, without systemd's names
        f"/kubepods.slice/kubepods-besteffort.slice/crio-{ID}.scope",  # CRI-O
        f"/system.slice/nerdctl-{ID}.scope",
        f"/ecs/cluster/0f9b/{ID}",  # Amazon ECS
        f"/docker/{OTHER}/docker/{ID}",  # Docker in Docker: the inner one
        f"/docker/{ID}/system.slice/app.service",  # systemd inside a container
        f"/actions_job/{ID}",
    ],
)
def test_an_engine_s_path_tells_the_id(path: str) -> None:
    """The id stands in a component of its own, with the engine's name before it and systemd's ending after it."""
    assert identify(at(f"0::{path}\n")) == Identity(ID, "cgroup")
    assert identify(at(f"12:cpu,cpuacct:{path}\n0::/\n")) == Identity(ID, "cgroup")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/user.slice/user-0.slice/session-2.scope",
        "/system.slice/cafe.service",
        f"/docker/{ID[:12]}",
        f"/docker/{ID}0",
        f"/docker/{ID[:-1]}",
        f"/docker/{ID.upper()}",
        f"/docker/x{ID}",
        f"/machine.slice/libpod-conmon-{ID}.scope",  # the monitor outside the container
        "/process_api/0edcbef08d797ac3d38f834f4daa3575",
        "/kubepods/besteffort/pod6c2e5f1a-1b2c-4d3e-8f9a-0b1c2d3e4f5a",
        f"/ecs/{OTHER[:32]}",  # a task
        f"/ecs/{OTHER[:32]}-12345678901",
        f"/ecs/{OTHER[:31]}-1234567890",
        f"/system.slice/{OTHER[:32]}-1234567890",  # of nobody that makes containers
        f"/{ID[:32]}/{OTHER[:32]}-1234567890",
        f"/ecs/{OTHER[:32]}-1234567890/app.scope",
    ],
)
def test_what_is_not_64_hex_digits_is_no_id(path: str) -> None:
    """Sessions, services, pods, short ids and monitors are not containers."""
    assert in_path(path) is None
    assert identify(at(f"0::{path}\n")) is None


@pytest.mark.parametrize(
    "path",
    [
        f"/ecs/{FARGATE}",
        f"/ecs/{OTHER[:32]}/{FARGATE}",
        f"/ecs/{OTHER[:32]}/{OTHER[:32]}-527074092",
        f"/{OTHER[:32]}/{FARGATE}",
    ],
)
def test_ecs_fargate_has_ids_of_its_own(path: str) -> None:
    """A task's 32 digits, a dash and a number, below ``ecs`` or below the task itself."""
    assert identify(at(f"9:cpu:{path}\n0::/\n")) == Identity(path.rpartition("/")[2], "cgroup")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (ID, ID),
        (ID[:12], ID[:12]),
        (f"docker://{ID}", ID),
        (f"libpod-{ID}.scope", ID),
        (f"/docker/{OTHER}/docker/{ID}", ID),
        ("ea32192c8553fbff06c9340478a2ff08-2495160603", "ea32192c8553fbff06c9340478a2ff08-2495160603"),  # ECS Fargate
        ("2", None),
        ("cafe", None),
        (ID[:11], None),
        (f"{ID}0", None),
        (f"libpod-conmon-{ID}.scope", None),
        ("web-1", None),
        ("", None),
    ],
)
def test_ids_that_others_report(said: str, meant: str | None) -> None:
    """An id comes whole or short, bare or with what an engine writes around it; what is no id is none."""
    assert reported(said) == meant


@pytest.mark.parametrize(
    ("source", "point"),
    [
        (f"/var/lib/docker/containers/{ID}/hostname", "/etc/hostname"),
        (f"/var/lib/docker/containers/{ID}/hosts", "/etc/hosts"),
        (f"/docker/containers/{ID}/resolv.conf", "/etc/resolv.conf"),  # a data root on a file system of its own
        (f"/var/lib/containers/storage/overlay-containers/{ID}/userdata/hostname", "/etc/hostname"),
        (f"/1000/containers/overlay-containers/{ID}/userdata/hosts", "/etc/hosts"),  # rootless Podman
        (f"/run/containers/storage/overlay-containers/{ID}/userdata/hostname", "/etc/hostname"),
        (f"/containers/storage/overlay-containers/{ID}/userdata/.containerenv", "/run/.containerenv"),  # /run is tmpfs
        (f"/var/lib/nerdctl/1935db59/containers/default/{ID}/resolv.conf", "/etc/resolv.conf"),
        (f"/var/lib/docker/volumes/{OTHER}/_data/containers/{ID}/hosts", "/etc/hosts"),  # Docker in Docker
    ],
)
def test_a_private_cgroup_namespace_leaves_the_mounts(source: str, point: str) -> None:
    """With a cgroup namespace the path is ``/``; then the engine's own files tell."""
    assert identify(at(mountinfo=mounted(source, point))) == Identity(ID, "mountinfo")


SANDBOX = mounted(f"/containers/storage/overlay-containers/{OTHER}/userdata/hostname") + (
    "\n93 72 254:0 /var/lib/kubelet/pods/1f/etc-hosts /etc/hosts rw - ext4 /dev/vda rw"
)


@pytest.mark.parametrize(
    ("source", "point"),
    [
        (f"/containers/storage/overlay-containers/{ID}/userdata/passwd", "/etc/passwd"),
        (f"/run/containers/storage/overlay-containers/{ID}/userdata/group", "/etc/group"),
        (f"/containers/storage/overlay-containers/{ID}/userdata/run/secrets", "/run/secrets"),
    ],
)
def test_cri_o_makes_some_files_for_the_container_itself(source: str, point: str) -> None:
    """In a pod the host name's file is the sandbox's, but those for users and secrets are the container's own."""
    mount = f"94 72 0:24 {source} {point} rw - tmpfs tmpfs rw"
    assert identify(at(mountinfo=f"{SANDBOX}\n{mount}")) == Identity(ID, "mountinfo")
    assert identify(at(mountinfo=SANDBOX)) is None


def test_podman_writes_the_id_into_a_file(tmp_path: Path) -> None:
    """``/run/.containerenv`` tells where Podman wrote it, but not in Kubernetes, where it is the sandbox's."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.containerenv").write_text(
        f'engine="podman-4.9.3"\nname="web"\nid="{ID}"\nimage="web"\nrootless=1\n'
    )
    assert identify(at(root=tmp_path)) == Identity(ID, "containerenv")
    assert identify(at(f"0::/machine.slice/libpod-{OTHER}.scope\n", root=tmp_path)) == Identity(OTHER, "cgroup")
    assert identify(at(mountinfo=SANDBOX, root=tmp_path)) is None
    for content in ("", f'id="{ID}"\n', f'engine="podman-4.9.3"\nid="{ID[:12]}"\n', f'engine="x"\nid="{ID}"\n'):
        (tmp_path / "run/.containerenv").write_text(content)
        assert identify(at(root=tmp_path)) is None


def test_containers_of_a_podman_pod_share_network_files() -> None:
    """They have ``/etc/hosts`` and ``/etc/resolv.conf`` of another container; their host name is their own."""
    folder = "/containers/storage/overlay-containers"
    mountinfo = (
        mounted(f"{folder}/{OTHER}/userdata/resolv.conf", "/etc/resolv.conf")
        + f"\n93 72 0:24 {folder}/{ID}/userdata/hostname /etc/hostname rw - tmpfs tmpfs rw"
    )
    assert identify(at(mountinfo=mountinfo)) == Identity(ID, "mountinfo")


@pytest.mark.parametrize(
    "mountinfo",
    [
        mounted(f"/var/lib/containers/storage/overlay-containers/{ID}/userdata/hostname")
        + "\n93 72 254:0 /pods/1f/containers/web/0a1b /dev/termination-log rw - ext4 /dev/vdb rw",
        mounted(f"/var/lib/containers/storage/overlay-containers/{ID}/userdata/hostname")
        + "\n93 72 254:0 /pods/1f/etc-hosts /etc/hosts rw - ext4 /dev/vdb rw",  # the kubelet's own disk
        mounted(f"/var/lib/containers/storage/overlay-containers/{ID}/userdata/passwd", "/mnt/passwd"),
        mounted(f"/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/{ID}/hostname"),
        mounted(f"/var/lib/docker/containers/{ID}/hostname")
        + "\n93 72 254:0 /var/lib/kubelet/pods/1f/etc-hosts /etc/hosts rw - ext4 /dev/vda rw",
        mounted(f"/var/lib/containers/storage/overlay-containers/{ID}/userdata/hostname")
        + "\n93 72 0:99 / /run/secrets/kubernetes.io/serviceaccount ro - tmpfs tmpfs rw",
        mounted(f"/var/lib/docker/containers/{ID}/mounts/shm", "/dev/shm"),  # noqa: S108 - a mount point
        mounted(f"/var/lib/docker/containers/{ID}/hostname", "/mnt/hostname"),  # somebody else's, looked at
    ],
)
def test_a_sandbox_or_somebody_else_s_file_is_no_id(mountinfo: str) -> None:
    """In Kubernetes the mounted files are the pause container's; elsewhere a mount may show another's folder."""
    assert identify(at(mountinfo=mountinfo)) is None


def test_v1_mounts_tell_the_id() -> None:
    """Docker on cgroup v1 mounts each hierarchy from the container's own cgroup on."""
    mountinfo = f"78 77 0:29 /docker/{ID} /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu"
    assert identify(at("1:cpu:/\n0::/\n", mountinfo)) == Identity(ID, "mountinfo")


def test_the_captured_container_is_found_both_ways() -> None:
    """What a real container on a hybrid machine showed gives its id, with its cgroup file and without."""
    cgroup, mountinfo = (HYBRID / "cgroup").read_text(), (HYBRID / "mountinfo").read_text()
    assert identify(at(cgroup, mountinfo)) == Identity(ID, "cgroup")
    assert identify(at("0::/\n", mountinfo)) == Identity(ID, "mountinfo")
    without_cgroups = "\n".join(line for line in mountinfo.splitlines() if " cgroup " not in line)
    assert identify(at("0::/\n", without_cgroups)) == Identity(ID, "mountinfo")


def test_the_environment_goes_first_if_it_is_an_id() -> None:
    """``LAYERLINE_CONTAINER_ID`` wins; what is no id is not believed."""
    assert identify(at(f"0::/docker/{ID}\n"), OTHER) == Identity(OTHER, "environment")
    assert identify(at(), FARGATE) == Identity(FARGATE, "environment")
    assert identify(at(f"0::/docker/{ID}\n"), "my-container") == Identity(ID, "cgroup")
    assert identify(at(), "my-container") is None


def test_a_machine_made_from_an_image_is_no_container(tmp_path: Path) -> None:
    """``/.dockerenv`` alone is a mark of a container, unless the machine's root cgroup can be seen."""
    (tmp_path / ".dockerenv").touch()
    cgroups = tmp_path / "sys/fs/cgroup"
    cgroups.mkdir(parents=True)
    (cgroups / "cgroup.controllers").touch()
    assert not inside_one(None, at(root=tmp_path))
    (cgroups / "cgroup.events").touch()  # only cgroups below the root have it
    assert inside_one(None, at(root=tmp_path))
    assert inside_one(Identity(ID, "cgroup"), at(root=tmp_path))
    (tmp_path / ".dockerenv").unlink()
    assert not inside_one(None, at(root=tmp_path))


# ---- where the cgroup's files are


def test_a_folder_is_found_below_its_mount(tmp_path: Path) -> None:
    """The path less the mount's root, below the mount's point; for v1 by controller, also where two share one."""
    both = "4:cpu,cpuacct:/docker/x\n0::/docker/x\n"
    mountinfo = (
        "1 0 0:1 /docker/x /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
        "2 0 0:2 / /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw"
    )
    inside = tmp_path / "sys/fs/cgroup/cpu,cpuacct"
    unified = tmp_path / "sys/fs/cgroup/unified/docker/x"
    inside.mkdir(parents=True)
    unified.mkdir(parents=True)
    found = at(both, mountinfo, tmp_path)
    assert found.folder("cpu") == inside
    assert found.folder("cpuacct") == inside
    assert found.folder("") == unified
    assert found.folder("memory") is None
    assert found.inode() == unified.stat().st_ino


@pytest.mark.parametrize("mark", ["release_agent", "cgroup.sane_behavior", "cgroup.controllers"])
def test_the_machine_s_root_cgroup_is_never_ours(tmp_path: Path, mark: str) -> None:
    """A root cgroup counts the whole machine; it is known by its files, as a namespace calls its own root ``/`` too."""
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup" / mark).touch()
    assert is_machine_root(tmp_path / "sys/fs/cgroup")
    assert at(root=tmp_path).folder("") is None


def test_the_root_of_a_namespace_is_ours(tmp_path: Path) -> None:
    """In a private cgroup namespace the folder is the mount point itself."""
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    for name in ("cgroup.controllers", "cgroup.events"):
        (tmp_path / "sys/fs/cgroup" / name).touch()
    assert at(root=tmp_path).folder("") == tmp_path / "sys/fs/cgroup"


def test_a_cgroup_outside_the_namespace_is_out_of_reach(tmp_path: Path) -> None:
    """A path that climbs out of the namespace, or does not lie below the mount, has no folder."""
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    assert at("0::/../outside\n", root=tmp_path).folder("") is None
    mountinfo = "30 23 0:26 /docker/a /sys/fs/cgroup ro - cgroup2 cgroup rw"
    assert at("0::/docker/ab\n", mountinfo, tmp_path).folder("") is None


def test_lines_of_another_shape_are_passed_over() -> None:
    """Nothing that the kernel might write one day breaks the reader."""
    assert parse_paths("nonsense\n0:\n1:cpu\n\n0::/a:b\n") == {"": "/a:b"}
    assert parse_mounts("nonsense\n1 2 3\n1 2 0:1 / /a\\040b rw - tmpfs tmpfs rw\n")[0].point == "/a b"
