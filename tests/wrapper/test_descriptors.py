"""Descriptors are the application's: hundreds of threads run where a process may have 1,024 of them, or fewer."""

from __future__ import annotations

from pathlib import Path

from layerline.attributes import ACCOUNT, ACCOUNT_REASON
from wrapper.conftest import Sink, layerline_run

THREADS = """
import os, resource, threading, time
from opentelemetry import trace
count = 400
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
threading.stack_size(256 * 1024)
tracer = trace.get_tracer("app")
opened, leave = threading.Barrier(count + 1), threading.Event()
def work():
    with tracer.start_as_current_span("request", kind=trace.SpanKind.SERVER):
        opened.wait()
        leave.wait()
threads = [threading.Thread(target=work) for _ in range(count)]
for thread in threads:
    thread.start()
opened.wait()
most = 0
for _ in range(30):  # the watcher looks at all of them meanwhile
    most = max(most, len(os.listdir("/proc/self/fd")))
    time.sleep(0.02)
try:
    files = [open("/etc/hostname") for _ in range(20)]
except OSError as problem:
    print(problem)
leave.set()
for thread in threads:
    thread.join()
print(most)
"""


def test_four_hundred_threads_at_1024(tmp_path: Path, sink: Sink) -> None:
    """All are measured, the application opens files of its own, and at most a quarter of what it may have is taken."""
    done = layerline_run(THREADS, tmp_path, LAYERLINE_ENDPOINT=sink.url)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 256
    assert {span.attributes[ACCOUNT] for span in sink.spans if span.name == "request"} == {"thread"}


TAKEN = """
import os, resource, threading
from opentelemetry import trace
tracer = trace.get_tracer("app")
def work(name):
    with tracer.start_as_current_span(name):
        pass
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
thread = threading.Thread(target=work, args=("without",))
thread.start()
thread.join()
for each in taken:
    os.close(each)
thread = threading.Thread(target=work, args=("with",))
thread.start()
thread.join()
"""


def test_where_none_is_left_that_is_the_reason(tmp_path: Path, sink: Sink) -> None:
    """A span that could not be measured for want of a descriptor says so; the next one is measured again."""
    done = layerline_run(TAKEN, tmp_path, LAYERLINE_ENDPOINT=sink.url)
    assert done.returncode == 0, done.stderr
    assert sink.named("without").attributes[ACCOUNT_REASON] == "no_descriptor"
    assert sink.named("with").attributes[ACCOUNT] == "thread"
