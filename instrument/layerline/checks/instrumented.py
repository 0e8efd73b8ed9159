"""What is installed beside Layerline that leaves no spans, because nothing instruments it."""

from __future__ import annotations

from layerline.doctor import ADVICE, OK, Check, Context, Finding
from layerline.uninstrumented import hints
from layerline.uninstrumented import look as installed


def look(context: Context) -> Finding:
    """By OpenTelemetry's own list (``opentelemetry-bootstrap``), in the environment that this command runs in."""
    found = installed()
    lines = hints(found, context.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", ""))
    command = [line.partition("To see it: ") for line in lines]
    if lines:
        cure = (
            "; ".join(after for _, _, after in command if after) or "install the instrumentation of your web framework"
        )
        return Finding(ADVICE, "; ".join(before.rstrip(". ") for before, _, _ in command), cure)
    names = ", ".join(sorted(each.library for each in found if each.instrumented))
    return Finding(OK, f"instrumented: {names or 'nothing that is known is installed here'}")


CHECK = Check(order=100, title="instrumented", look=look)
