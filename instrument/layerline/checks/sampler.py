"""Whether every request leaves its spans: of one that is left out at the source nothing can be said."""

from __future__ import annotations

from layerline.doctor import OK, PROBLEM, UNKNOWN, Check, Context, Finding

_CURE = "unset OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG (the server itself limits what it works out)"


def look(context: Context) -> Finding:
    """``OTEL_TRACES_SAMPLER`` and its argument, as `layerline run` started here would take them."""
    name = context.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    if name in ("", "always_on", "parentbased_always_on"):
        return Finding(OK, "every request is kept")
    if name in ("always_off", "parentbased_always_off"):
        return Finding(PROBLEM, f"OTEL_TRACES_SAMPLER is {name}: no request leaves spans", _CURE)
    if name in ("traceidratio", "parentbased_traceidratio"):
        try:
            share = float(context.environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or 1)
        except ValueError:
            share = 1.0  # as `layerline run` takes it
        if share >= 1:
            return Finding(OK, "every request is kept")
        found = f"{share:.2%} of requests are kept: slow ones are missed, and counts and rates are of the sample"
        return Finding(PROBLEM, found, _CURE)
    return Finding(UNKNOWN, f"OTEL_TRACES_SAMPLER is {name}: how much it keeps is its own")


CHECK = Check(order=120, title="sampler", look=look)
