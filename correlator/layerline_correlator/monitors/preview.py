"""What a monitor would have done: the same judgement over moments that have passed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from layerline_correlator.monitors.judge import judge
from layerline_correlator.monitors.model import Alert, CannotEvaluate, Monitor, Source

#: Evaluations of one preview, at most: a longer past is looked at in longer steps.
MOST = 240


@dataclass(frozen=True, slots=True)
class Preview:
    """The alerts that would have fired, in order of time, and how closely that was looked at."""

    alerts: list[Alert]
    evaluations: int
    every_ns: int  # the step between them: the monitor's own, or more


def preview(
    source: Source, monitor: Monitor, from_ns: int, to_ns: int, enough: Callable[[], bool] = lambda: False
) -> Preview:
    """Judge at each step from ``from_ns`` to ``to_ns``. ``CannotEvaluate``, also where ``enough`` says that it is.

    Where the step is longer than the monitor's own, what began and ended between two steps is not seen.
    """
    step_ns = max(monitor.every_ns, -(-(to_ns - from_ns) // MOST))
    moments = range(from_ns + step_ns, to_ns + 1, step_ns)
    stepped = replace(monitor, every_ns=step_ns)
    open_alerts: list[Alert] = []
    fired: dict[str, Alert] = {}
    for at_ns in moments:
        if enough():
            raise CannotEvaluate("it took too long")
        judged = judge(stepped, open_alerts, source(monitor.question, at_ns), at_ns)
        fired |= {alert.id: alert for alert in judged if alert.state != "pending"}
        open_alerts = [alert for alert in judged if alert.state != "resolved"]
    return Preview(sorted(fired.values(), key=lambda alert: (alert.fired_ns or 0, alert.group)), len(moments), step_ns)
