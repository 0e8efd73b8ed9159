"""What follows from an evaluation: pure rules on plain data. Time is passed in; there is no clock here, no database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from layerline_correlator.monitors.model import Alert, Evaluation, Finding, Monitor, Target, alert_id

#: A receiver that takes an alert for resolved when it is not told again (Alertmanager) is told again after this time.
AGAIN_NS = 3600 * 10**9


def judge(monitor: Monitor, open_alerts: Iterable[Alert], found: Evaluation, at_ns: int) -> list[Alert]:
    """The alerts as they are after the evaluation at ``at_ns``: open, just resolved, without those that never fired.

    * Who was found has one open alert: pending until it has held for ``for_ns``, then firing.
    * Who was not found and is known to be well: what fired is resolved, what was pending is forgotten.
    * Of whom it cannot be said: nothing changes.
    * What was not evaluated for longer than two evaluations take (the server was down) is not known to have held
      meanwhile: pending begins anew. What fires goes on firing.
    """
    before = {alert.group: alert for alert in open_alerts}
    after = [_found(monitor, before.pop(finding.group, None), finding, at_ns) for finding in found.findings]
    return after + list(_not_found(before.values(), found, at_ns))


def _found(monitor: Monitor, alert: Alert | None, finding: Finding, at_ns: int) -> Alert:
    gap = alert is not None and alert.state == "pending" and at_ns - alert.held_ns > 2 * monitor.every_ns
    if alert is None or gap:
        alert = Alert(alert_id(monitor.id, finding.group, at_ns), monitor.id, finding.entity, "pending", at_ns, at_ns)
    alert = replace(alert, entity=finding.entity, held_ns=at_ns, figures=finding.figures)
    if alert.state == "pending" and at_ns - alert.since_ns >= monitor.for_ns:
        alert = replace(alert, state="firing", fired_ns=at_ns)
    return alert


def _not_found(alerts: Iterable[Alert], found: Evaluation, at_ns: int) -> Iterator[Alert]:
    for alert in alerts:
        if found.blind or alert.group in found.unknown:
            yield alert
        elif alert.state == "firing":
            yield replace(alert, state="resolved", resolved_ns=at_ns)


def to_tell(alert: Alert, monitor: Monitor, at_ns: int) -> tuple[Target, ...]:
    """To whom the alert's state is to be told now, or told again. To nobody while the monitor is silent.

    Who never heard that it fires need not hear that it is over.
    """
    if at_ns < monitor.silent_until_ns or alert.state == "pending":
        return ()
    if alert.state == "resolved":
        return monitor.targets if alert.told == "firing" else ()
    if alert.told != "firing":
        return monitor.targets
    forgets = tuple(target for target in monitor.targets if target.kind == "alertmanager")
    return forgets if at_ns - alert.told_ns >= AGAIN_NS else ()
