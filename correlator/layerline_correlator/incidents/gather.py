"""Which troubles are one incident: written down, and split where one fault followed another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import duckdb

from layerline_correlator.facts.names import Names
from layerline_correlator.incidents.group import Blamed, Trouble, together
from layerline_correlator.incidents.signs import OF_CALLS, Lasted, Sign, end_of
from layerline_correlator.incidents.takeover import NEAR_NS, OUTLIVES_NS, Takeover, divided, takeovers
from layerline_correlator.incidents.troubles import SET_COLUMNS, Known, columns, key_of, read_troubles
from layerline_correlator.incidents.verdict import culprits_of, leader
from layerline_correlator.store.model import resource_key
from layerline_correlator.store.statements import text


class Gathering:
    """Keeps the table ``incident``, save for what is said of each (watch.py)."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, names: Names, settle_ns: int) -> None:
        self._cursor, self._names, self._settle_ns = cursor, names, settle_ns
        self._refused: dict[tuple[str, Takeover], int] = {}  # how long the second had lasted then

    def gather(self) -> None:
        """Put troubles together into incidents, as long as these may change."""
        known = self._read(
            "incident IS NULL OR incident IN (SELECT incident FROM incident WHERE NOT settled) ORDER BY start_ns"
        )
        if not known:
            return
        troubles = []
        for one in known:
            culprits, traces, fails = culprits_of(self._cursor, one.key, one.start_ns, self._names, self._settle_ns)
            troubles.append(
                Trouble(
                    one.key,
                    one.start_ns,
                    one.end_ns,
                    culprits,
                    traces,
                    one.incident,
                    one.split_from,
                    fails,
                    one.operation,
                    _callees(one.lasted),
                )
            )
        for group in together(troubles):
            self._put_together(group)

    def _put_together(self, group: Sequence[Trouble]) -> None:
        """Write down that these troubles are one incident, under the id that was known first."""
        if len({one.incident for one in group}) == 1 and group[0].incident is not None:
            self._run(text("incidents/span_of_incident.sql"), incident=group[0].incident)
            return
        earlier = list(dict.fromkeys(one.incident for one in group if one.incident is not None))
        incident = earlier[0] if earlier else group[0].key
        if not earlier:
            self._open(incident)
        self._move([one.key for one in group], incident)
        self.merge(incident, earlier[1:])

    def _open(self, incident: str) -> None:
        """A row for a new incident; an id that had become part of another may stand for itself again."""
        self._run("DELETE FROM incident WHERE incident = $incident", incident=incident)
        self._run(
            "INSERT INTO incident BY NAME SELECT $incident AS incident, 0 AS start_ns, 0 AS noticed_ns,"
            " false AS settled",
            incident=incident,
        )

    def _move(self, troubles: Sequence[str], incident: str) -> None:
        self._run(
            "UPDATE trouble SET incident = $incident WHERE trouble IN (SELECT unnest($keys::VARCHAR[]))",
            incident=incident,
            keys=list(troubles),
        )
        self._run(text("incidents/span_of_incident.sql"), incident=incident)
        self._run("UPDATE incident SET told_ns = NULL WHERE incident = $incident", incident=incident)

    def merge(self, incident: str, others: Sequence[str]) -> None:
        """The others turned out to be part of this incident; their troubles are its own already."""
        values = {"incident": incident, "others": list(others)}
        self._run(
            "UPDATE incident SET merged_into = $incident, settled = true"
            " WHERE incident IN (SELECT unnest($others::VARCHAR[]))",
            **values,
        )
        self._run(
            "UPDATE trouble SET split_from = $incident WHERE split_from IN (SELECT unnest($others::VARCHAR[]))",
            **values,
        )

    def split(self, until_ns: int) -> bool:
        """Split incidents in which one fault followed another without healthy time between. True when there was one."""
        rows = self._cursor.execute("SELECT incident FROM incident WHERE NOT settled ORDER BY start_ns").fetchall()
        unsettled = [incident for (incident,) in rows]
        self._refused = {key: lasted_ns for key, lasted_ns in self._refused.items() if key[0] in unsettled}
        return any([self._split_one(incident, until_ns) for incident in unsettled])  # noqa: C419 - each is looked at

    def _split_one(self, incident: str, until_ns: int) -> bool:
        troubles = self._read("incident = $incident AND slo IS NULL ORDER BY start_ns, trouble", incident=incident)
        for found in takeovers((item for one in troubles for item in one.lasted), until_ns):
            # A verdict is dear: it is asked for again when there is twice as much to judge.
            known, lasted_ns = (incident, replace(found, to_ns=0)), found.to_ns - found.began_ns
            if lasted_ns < 2 * self._refused.get(known, 0):
                continue
            if not self._has_taken_over(troubles, found):
                self._refused[known] = lasted_ns
                continue
            later = self._after(troubles, found)
            new = resource_key({"split_from": incident, "trouble": later[0]})[:12]
            self._open(new)
            self._move(later, new)
            self._run("UPDATE trouble SET split_from = $old WHERE incident = $new", old=incident, new=new)
            self._run(text("incidents/span_of_incident.sql"), incident=incident)
            self._run("UPDATE incident SET told_ns = NULL WHERE incident = $incident", incident=incident)
            self._split_one(new, until_ns)
            return True
        return False

    def _has_taken_over(self, troubles: Sequence[Known], found: Takeover) -> bool:
        """Whether the one really was first to blame while it was alone, and the other is since."""
        keys = [one.key for one in troubles]

        def leads(sign: Sign, from_ns: int, to_ns: int) -> Blamed | None:
            culprit = leader(self._cursor, keys, from_ns, to_ns, self._names, self._settle_ns)
            return culprit if culprit is not None and _sign_of(culprit) == sign else None

        first = leads(found.over, found.from_ns, min(found.over_ns, found.began_ns))
        if first is None:
            return False
        # Soon after, as if it were asked then: later a third fault may lead, while the second still lasts.
        soon_ns = found.over_ns + 2 * OUTLIVES_NS
        for to_ns in sorted({min(soon_ns, found.to_ns), found.to_ns}):
            second = leads(found.began, found.over_ns, to_ns)
            if second is not None and not first.same(second):
                return True
        return False

    def _after(self, troubles: Sequence[Known], found: Takeover) -> list[str]:
        """End the troubles of an incident where its cause was over; those since the next began, the earliest first."""
        later = []
        for one in troubles:
            ends = [
                its.to_ns
                for sign, its in one.lasted
                if sign == found.over and its.to_ns and its.from_ns < found.over_ns
            ]
            begins = [its.from_ns for sign, its in one.lasted if sign == found.began and its.from_ns >= found.began_ns]
            only_later = bool(begins) and not ends and one.start_ns >= found.began_ns - NEAR_NS
            if only_later or one.start_ns >= found.began_ns:
                later.append((one.start_ns, one.key))
                continue
            if one.end_ns is not None and one.end_ns < found.over_ns + OUTLIVES_NS:
                continue
            over_ns, began_ns = max(ends, default=found.over_ns), min(begins, default=found.began_ns)
            before, after = divided(one.lasted, over_ns, began_ns)
            if before and after:
                later.append((began_ns, self._cut(one, before, after)))
            elif after:
                later.append((one.start_ns, one.key))
        return [key for _, key in sorted(later)]

    def _cut(self, one: Known, before: Sequence[Lasted], after: Sequence[Lasted]) -> str:
        """Make two troubles of one; the key of the second."""
        start_ns, end_ns = min(stretch.from_ns for _, stretch in after), end_of(after)
        key = key_of(one.operation, start_ns)
        self._run(
            "INSERT INTO trouble SELECT * REPLACE ($key AS trouble, NULL AS incident, $start_ns AS start_ns,"
            " $noticed_ns AS noticed_ns) FROM trouble WHERE trouble = $old",
            key=key,
            old=one.key,
            start_ns=start_ns,
            noticed_ns=min(stretch.noticed_ns for _, stretch in after),
        )
        for which, lasted, until_ns in ((one.key, before, end_of(before)), (key, after, end_ns)):
            self._run(
                f"UPDATE trouble SET end_ns = $end_ns, {SET_COLUMNS} WHERE trouble = $key",
                key=which,
                end_ns=until_ns,
                **columns(lasted, one.least_ns),
            )
        return key

    def _read(self, where: str, **values: Any) -> list[Known]:
        return read_troubles(self._cursor, where, values)

    def _run(self, sql: str, **values: Any) -> None:
        self._cursor.execute(sql, values).fetchall()


def _callees(lasted: Sequence[Lasted]) -> frozenset[str]:
    """Whom calls were made to that were late, or failed, where nothing else was seen."""
    signs = {sign for sign, _ in lasted}
    return frozenset({sign.service for sign in signs} if OF_CALLS.issuperset(sign.kind for sign in signs) else ())


def _sign_of(culprit: Blamed) -> Sign:
    """The sign by which a culprit's cause is counted."""
    address = culprit.entity_id if culprit.entity_type == "service" else ""
    return Sign("cause", culprit.cause, culprit.service, address)
