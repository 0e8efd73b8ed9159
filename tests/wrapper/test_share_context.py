"""What a profiler outside of the process can read of it: its resource, and the current span of each thread.

The reader here does as OTEP 4719 and 4947 say that one does: it looks the mapping and the variable up in
``/proc/PID/maps`` and in the library's table of symbols, and reads the process's memory. Each line that the app prints
says what must be seen while it waits for the answer.
"""

from __future__ import annotations

import json
import platform
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.sdk.trace import TracerProvider

from layerline import fast, guard, share_context
from layerline.settings import Settings
from waiting import PATIENCE_S
from wrapper.conftest import clean_environment, plain

needs_extension = pytest.mark.skipif(fast.MODULE is None, reason="layerline._fast is not built here, or off")
needs_known_threads = pytest.mark.skipif(
    platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc", reason="where thread-locals are differs"
)

APP = """
import asyncio, json, os, sys, threading
from opentelemetry import trace
from layerline import wiring
tracer = trace.get_tracer("app")

def say(span=None, **more):
    ids = span and ["%032x" % span.get_span_context().trace_id, "%016x" % span.get_span_context().span_id]
    print(json.dumps({"pid": os.getpid(), "ident": threading.get_ident(), "ids": ids, **more}), flush=True)
    assert sys.stdin.readline() == "seen\\n"

def beside():
    say(trace.get_current_span())  # what the thread was handed (layerline.work)
    with tracer.start_as_current_span("beside") as span:
        say(span)

say(resource={"service.name": "shop", "process.pid": os.getpid(), "telemetry.sdk.language": "python"})
with tracer.start_as_current_span("outer") as outer:
    with tracer.start_as_current_span("inner") as inner:
        say(inner)
    say(outer)
    thread = threading.Thread(target=beside)
    thread.start()
    thread.join()
    pid = os.fork()
    if pid == 0:
        say(outer, resource={"process.pid": os.getpid()})
        os._exit(0)
    os.waitpid(pid, 0)
    wiring.update(trace.get_tracer_provider(), {"later": "x" * 9000})
    say(outer, resource={"service.name": "shop", "process.pid": os.getpid(), "later": "x" * 9000})
say()
remote = trace.SpanContext(1, 2, True, trace.TraceFlags(1))
with trace.use_span(trace.NonRecordingSpan(remote)):
    say()

async def one(opened, told):
    with tracer.start_as_current_span("task") as span:
        opened.set()
        await told.wait()
        say(span)

async def both():
    opened, told = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(one(opened, told))
    await opened.wait()
    say()
    told.set()
    await task

asyncio.run(both())
"""


class Process:
    """Another process's memory."""

    def __init__(self, pid: int) -> None:
        self._maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
        self._memory = Path(f"/proc/{pid}/mem")

    def read(self, address: int, size: int) -> bytes:
        with self._memory.open("rb", buffering=0) as file:
            file.seek(address)
            return file.read(size)

    def number(self, address: int) -> int:
        return int.from_bytes(self.read(address, 8), sys.byteorder)

    def mapped(self, *names: str) -> list[tuple[int, str]]:
        """Where mappings with these names begin, and their names."""
        found = []
        for line in self._maps:
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and fields[5].removesuffix(" (deleted)").endswith(names):
                found.append((int(fields[0].partition("-")[0], 16), fields[5]))
        return found

    def context(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The published resource, and what is said beside it."""
        ((address, _),) = self.mapped("/memfd:OTEL_CTX", "[anon_shmem:OTEL_CTX]", "[anon:OTEL_CTX]")
        signature, version, size, published, payload = struct.unpack("=8sIIQQ", self.read(address, 32))
        assert (signature, version) == (b"OTEL_CTX", 2)
        assert published > 0
        resource, further = {}, {}
        for field, body in fields_of(self.read(payload, size)):
            if field == 1:
                resource = {each.key: plain(each.value) for each in Resource.FromString(body).attributes}
            elif field == 2:
                pair = KeyValue.FromString(body)
                further[pair.key] = plain(pair.value)
        return resource, further

    def span(self, pthread: int) -> list[str] | None:
        """The trace and span id that the thread with that descriptor (``pthread_self``) shows; None for none.

        A thread-local variable of a library lies where the thread's table (``dtv``) says for the library's number.
        """
        library = next(Path(name) for _, name in self.mapped("/_fast.abi3.so"))
        base = min(address for address, name in self.mapped(str(library)))
        number, offset = (self.number(base + at) for at in slots_of(library, "otel_thread_ctx_v1"))
        block = self.number(self.number(pthread + 8) + 16 * number)
        if block == (1 << 64) - 1:  # this thread has not used the library's variables
            return None
        if (record := self.number(block + offset)) == 0:
            return None
        trace_id, span_id, valid, flags, size = struct.unpack("=16s8sBBH", self.read(record, 28))
        if valid != 1:
            return None
        assert (flags & 1, size) == (1, 0)
        return [trace_id.hex(), span_id.hex()]


def fields_of(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a protobuf message that has nothing but texts, bytes and messages."""
    at = 0
    while at < len(message):
        tag, at = message[at], at + 1
        assert tag & 7 == 2, tag
        size = shift = 0
        while True:
            size |= (message[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if message[at - 1] < 128:
                break
        yield tag >> 3, message[at : at + size]
        at += size


def slots_of(library: Path, name: str) -> tuple[int, int]:
    """Where the loader keeps the number of a library and a thread-local variable's offset in it (x86_64)."""
    content = library.read_bytes()
    start, size, count = (struct.unpack_from(form, content, at)[0] for form, at in (("<Q", 40), ("<H", 58), ("<H", 60)))
    sections = [struct.unpack_from("<IIQQQQIIQQ", content, start + i * size) for i in range(count)]
    found: dict[int, int] = {}
    for _, kind, _, _, begin, length, link, *_ in sections:
        if kind != 4:  # SHT_RELA, of the dynamic symbols in section ``link``
            continue
        symbols = sections[link]
        if symbols[1] != 11:  # SHT_DYNSYM
            continue
        texts = sections[symbols[6]][4]
        for at in range(begin, begin + length, 24):
            where, info, _ = struct.unpack_from("<QQq", content, at)
            entry = symbols[4] + 24 * (info >> 32)
            text = texts + struct.unpack_from("<I", content, entry)[0]
            if content[text : content.index(b"\0", text)].decode() == name:
                assert content[entry + 4] & 15 == 6  # STT_TLS
                found[info & 0xFFFFFFFF] = where
    return found[16], found[17]  # R_X86_64_DTPMOD64, R_X86_64_DTPOFF64


@contextmanager
def app(folder: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """The app, until it has said all."""
    (folder / "app.py").write_text(APP, encoding="utf-8")
    command = [sys.executable, "-m", "layerline.command", "run", "--", sys.executable, "-W", "ignore", "app.py"]
    environment = clean_environment(
        OTEL_SERVICE_NAME="shop", LAYERLINE_ENDPOINT="http://127.0.0.1:9", LAYERLINE_EXIT_TIMEOUT="0", **variables
    )
    with subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()


@needs_extension
@needs_known_threads
def test_a_reader_outside_sees_the_resource_and_each_thread_s_current_span(tmp_path: Path) -> None:
    """Also in other threads, in a forked child, after an addition, between and in the steps of tasks; no remote one."""
    lines = 0
    with app(tmp_path, LAYERLINE_SHARE_CONTEXT="on") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            said = json.loads(line)
            there = Process(said["pid"])
            resource, further = there.context()
            wanted = said.get("resource", {})
            assert {name: resource.get(name) for name in wanted} == wanted, line
            assert further == {"threadlocal.schema_version": "tlsdesc_v1_dev", "threadlocal.attribute_key_map": []}
            assert there.span(said["ident"]) == said["ids"], line
            lines += 1
            process.stdin.write("seen\n")
            process.stdin.flush()
    assert lines == 11


def test_nothing_is_shared_unless_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default neither the resource nor a span is laid out, and nothing is wrapped."""
    monkeypatch.setattr(share_context, "_follow", pytest.fail)
    provider = TracerProvider(shutdown_on_exit=False)
    for settings in (Settings.read({}), Settings.read({"LAYERLINE_SHARE_CONTEXT": "off"})):
        share_context.install(settings, provider)
    assert share_context._extension is None


def test_without_the_extension_one_line_says_that_nothing_is_shared(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody who has asked for it learns why a profiler sees nothing."""
    monkeypatch.setattr(guard, "_said", set())
    settings = Settings.read({"LAYERLINE_SHARE_CONTEXT": "on"})
    for _ in range(2):
        share_context.install(settings, TracerProvider(shutdown_on_exit=False), None)
    assert [record.message for record in caplog.records if "LAYERLINE_SHARE_CONTEXT" in record.getMessage()] != []
    assert len(caplog.records) == 1
    assert share_context._extension is None
