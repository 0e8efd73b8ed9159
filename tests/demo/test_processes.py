"""Services as plain processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerline_api.demo.layout import Cores, numbers_of, share
from layerline_api.demo.load import median_ns, send
from layerline_api.demo.place import DemoError, Limits, Service, clean_environment, wait_ready
from layerline_api.demo.processes import Processes
from waiting import eventually


def test_a_service_starts_answers_and_is_gone() -> None:
    """A plain service answers at its URL, and nothing of it is left when the place is closed."""
    with Processes() as place:
        command = ("-m", "layerline_api.demo.shop.prices", "--listen", place.listen("prices", 8000))
        pid = int(place.start(Service("prices", command)).id)
        wait_ready(place, "prices")
        folder = Path(place.folder("journal"))
        assert median_ns(send(f"{place.url('prices')}/prices", 3, 0)) > 2_000_000
    assert not Path(f"/proc/{pid}").exists()
    assert not folder.exists()


def test_a_service_that_ends_early_shows_its_last_lines() -> None:
    """Who waits for a service that has failed is told what it printed."""
    with Processes() as place:
        place.listen("broken", 8000)
        place.start(Service("broken", ("-c", "raise SystemExit('no such shop')")))
        with pytest.raises(DemoError, match="no such shop"):
            wait_ready(place, "broken")


def test_the_children_of_a_service_end_with_it() -> None:
    """Burners that a neighbour has started are gone when it is stopped."""
    with Processes() as place:
        command = ("-m", "layerline_api.demo.shop.burner", "--processes", "2")
        group = int(place.start(Service("neighbour", command)).id)
        eventually(lambda: len(members(group)) == 3, "both burners")
        place.stop("neighbour")
        assert not members(group)


def members(group: int) -> list[str]:
    """The processes of a group, zombies left out."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, number = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(number) == group and state != "Z":
            found.append(stat.parent.name)
    return found


def test_a_service_stays_on_its_cores() -> None:
    """Of the limits of a service a plain process takes its cores."""
    core = max(os.sched_getaffinity(0))
    with Processes() as place:
        pid = int(place.start(Service("sleeper", ("-c", "input()"), limits=Limits(cpuset=str(core)))).id)
        assert os.sched_getaffinity(pid) == {core}


def test_a_running_service_can_be_moved() -> None:
    """A service that runs already can be kept on one core, and be given all of them again."""
    everywhere = os.sched_getaffinity(0)
    with Processes() as place:
        pid = int(place.start(Service("sleeper", ("-c", "input()"))).id)
        place.keep_on("sleeper", str(max(everywhere)))
        assert os.sched_getaffinity(pid) == {max(everywhere)}
        place.keep_on("sleeper", ",".join(map(str, everywhere)))
        assert os.sched_getaffinity(pid) == everywhere


def test_the_subject_has_a_core_to_itself() -> None:
    """What is measured is kept apart from what measures, where there are two cores to do so."""
    assert share({0, 1, 2, 3}) == Cores("3", "0,1,2")
    assert share({0, 1, 2, 3}).all == "0,1,2,3"
    assert share({7}) == Cores(None, None)
    assert share({7}).all is None
    assert numbers_of("0-2,5") == {0, 1, 2, 5}


def test_a_service_does_not_inherit_what_would_steer_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another exporter, another server or a proxy in the caller's environment does not reach the demo's services."""
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "LAYERLINE_TOKEN", "HTTP_PROXY", "https_proxy", "PYTHONPATH"):
        monkeypatch.setenv(name, "elsewhere")
    assert "elsewhere" not in clean_environment().values()
