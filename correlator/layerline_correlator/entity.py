"""An entity: a process, container, host or service, with the name that people know it by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: The name of a machine of which nobody says one.
NAMELESS = "this machine"


@dataclass(frozen=True, slots=True)
class Entity:
    """A process, container, host or service (a dependency), as a verdict names it; an alert's may be an operation or
    an incident."""

    type: str
    id: str
    name: str


#: Gives the entity, with its name, of a type and an id.
Naming = Callable[[str, str], Entity]
