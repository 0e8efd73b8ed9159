"""The lab's Flask app: each request says what it costs.

``layerline run -- gunicorn flask_app:app``, or ``layerline run -- python flask_app.py --listen HOST:PORT`` for Flask's
own server, with a thread for each request. ``LAB_FOLDER`` is where it writes, ``LAB_FIRST_MS`` how long the first
request of a process to ``/first`` builds. All work is done for the milliseconds that the query asks for.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import logging
import mmap
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

import psycopg
import requests
from flask import Flask, request
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

FOLDER = Path(os.environ.get("LAB_FOLDER", "/tmp"))  # noqa: S108 - in a container, whose /tmp is its own
FIRST_MS = float(os.environ.get("LAB_FIRST_MS", "0"))
MIB = 1024 * 1024


def rounds_per_millisecond(rounds: int = 40_000) -> float:
    """How many rounds this machine computes per millisecond of CPU time; the best of five."""

    def once() -> float:
        began = time.thread_time()
        hashlib.pbkdf2_hmac("sha256", b"layerline", b"salt", rounds)
        return time.thread_time() - began

    return rounds / min(once() for _ in range(5)) / 1_000


PER_MILLISECOND = rounds_per_millisecond()


def burn(milliseconds: float) -> None:
    """Compute until this thread has used so much CPU time, however fast the machine is just now.

    In calls of 5 ms that do not hold the interpreter lock: threads then compete for cores.
    """
    end = time.thread_time() + milliseconds / 1_000
    while (left := (end - time.thread_time()) * 1_000) > 0:
        hashlib.pbkdf2_hmac("sha256", b"layerline", b"salt", max(1, round(min(left, 5) * PER_MILLISECOND)))


def hog(milliseconds: float) -> None:
    """Compute in pure Python, which holds the interpreter lock."""
    end = time.monotonic() + milliseconds / 1_000
    while time.monotonic() < end:
        sum(range(100))


def interpret(milliseconds: float) -> None:
    """Compute in pure Python until this thread has used so much CPU time."""
    end = time.thread_time() + milliseconds / 1_000
    while time.thread_time() < end:
        sum(range(1_000))


def number(name: str, usual: float = 0) -> float:
    """A figure of the query."""
    return float(request.args.get(name, usual))


def file_of(name: str, size: int) -> Path:
    """A file of the folder with at least so many random bytes, on the disk."""
    path = FOLDER / name
    if not path.exists() or path.stat().st_size < size:
        with path.open("wb") as file:
            for _ in range(-(-size // MIB)):
                file.write(os.urandom(MIB))
            file.flush()
            os.fsync(file.fileno())
    return path


def evict(path: Path) -> None:
    """Drop a file's pages from the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


app = Flask("lab")
lock = threading.Lock()
pool = ThreadPoolExecutor(2)
crew = ThreadPoolExecutor(8)
session = requests.Session()
retry = Retry(total=None, connect=60, read=60, backoff_factor=0.05, backoff_max=0.05)
session.mount("http://", HTTPAdapter(max_retries=retry))
siblings: list[tuple[threading.Event, threading.Thread]] = []
built = threading.Event()
read_whole: set[int] = set()
kept: list[psycopg.Connection[tuple[object, ...]]] = []


@dataclass
class Order:
    """What the holder shall compute, and whether it holds ``lock`` meanwhile (or the interpreter's own)."""

    milliseconds: float
    locked: bool
    begun: threading.Event = field(default_factory=threading.Event)


orders: SimpleQueue[Order] = SimpleQueue()


def hold_for_others() -> None:
    """The holder: a thread of the app's own, which belongs to no request, and for which requests wait."""
    while True:
        order = orders.get()
        if order.locked:
            with lock:
                order.begun.set()
                burn(order.milliseconds)
        else:
            order.begun.set()
            interpret(order.milliseconds)


holder = threading.Thread(target=hold_for_others, name="holder", daemon=True)
holder.start()


@app.get("/holder")
def holder_number() -> str:
    """The holder's number, as the kernel knows it in this container."""
    return str(holder.native_id)


@app.get("/behind")
def behind_lock() -> str:
    """Compute ``ms`` holding the lock, once the holder has given it back, which computes ``hold`` first."""
    order = Order(number("hold"), locked=True)
    orders.put(order)
    order.begun.wait(30)
    with lock:
        burn(number("ms"))
    return "done"


@app.get("/interpreted")
def behind_interpreter() -> str:
    """As ``/gil``, while the holder computes ``hold`` in pure Python."""
    order = Order(number("hold"), locked=False)
    orders.put(order)
    order.begun.wait(30)
    return interpreted()


@app.get("/ready")
def ready() -> str:
    """It answers."""
    return "ok"


@app.get("/cpu")
@app.get("/honest", endpoint="honest")
@app.get("/quiet", endpoint="quiet")
@app.get("/steady", endpoint="steady")
@app.get("/slow", endpoint="slow")
@app.get("/queued", endpoint="queued")
@app.get("/frozen", endpoint="frozen")
@app.get("/bursts", endpoint="bursts")
def cpu() -> str:
    """Compute ``ms``; ``times`` bursts with ``pause`` between them."""
    for _ in range(int(number("times", 1))):
        burn(number("ms"))
        time.sleep(number("pause") / 1_000)
    return "done"


@app.get("/sleep")
@app.get("/nap", endpoint="nap")
@app.get("/occupy", endpoint="occupy")
@app.get("/warm", endpoint="warm")
def sleep() -> str:
    """Sleep."""
    burn(2)
    time.sleep(number("ms") / 1_000)
    return "done"


@app.get("/write")
@app.get("/journal", endpoint="journal")
def write() -> str:
    """Compute ``ms``, then write ``kib`` through to the device, ``times`` over."""
    burn(number("ms"))
    if size := int(number("kib")) * 1024:
        descriptor = os.open(FOLDER / "written", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            for _ in range(int(number("times", 1))):
                os.write(descriptor, os.urandom(1024) * (size // 1024))
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return "done"


@app.get("/db")
@app.get("/rows", endpoint="rows")
def database() -> str:
    """``n`` queries, each of which the database answers after ``ms``."""
    connection = connected()
    for one in range(int(number("n", 1))):
        if milliseconds := number("ms"):
            connection.execute("SELECT pg_sleep(%s / 1000.0)", (milliseconds,))
        else:
            connection.execute("SELECT 1 + %s", (one,))
    return "done"


@app.get("/update")
def update() -> str:
    """Change a row of the database."""
    connected().execute("UPDATE item SET count = count + 1 WHERE id = 1")
    return "done"


@app.get("/big")
def big() -> str:
    """An answer of ``kib``."""
    return "layerlin" * 128 * int(number("kib"))


def connected() -> psycopg.Connection[tuple[object, ...]]:
    """The worker's connection to the database."""
    if not kept:
        kept.append(psycopg.connect(os.environ["DATABASE_URL"], autocommit=True))
    return kept[0]


@app.get("/read")
def read() -> str:
    """Compute ``ms``, then read ``kib`` of a file that is not in the page cache."""
    burn(number("ms"))
    if size := int(number("kib")) * 1024:
        path = file_of("read", 8 * MIB)
        evict(path)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            while size > 0 and (got := len(os.read(descriptor, min(size, 64 * 1024)))):
                size -= got
        finally:
            os.close(descriptor)
    return "done"


@app.get("/call")
@app.get("/fetch", endpoint="fetch")
@app.get("/both", endpoint="both")
@app.get("/retry", endpoint="retry")
def call() -> str:
    """Compute ``ms``, then call ``url``; a broken connection is tried again within the same call."""
    burn(number("ms"))
    session.get(request.args["url"], timeout=60).raise_for_status()
    return "done"


@app.get("/lock")
def locked() -> str:
    """Compute ``ms`` holding a lock that PUT /lock holds for its ``ms``."""
    with lock:
        burn(number("ms"))
    return "done"


@app.put("/lock")
def hold() -> str:
    """Another thread takes the lock, for ``ms``; answered when it has it."""
    has_it = threading.Event()
    seconds = number("ms") / 1_000

    def holder() -> None:
        with lock:
            has_it.set()
            time.sleep(seconds)

    threading.Thread(target=holder, daemon=True).start()
    has_it.wait(30)
    return "held"


@app.get("/gil")
def interpreted() -> str:
    """Many short steps in pure Python, each of which asks for the interpreter lock again."""
    for _ in range(int(number("steps", 40))):
        time.sleep(0.0005)
        sum(range(1_000))
    return "done"


@app.put("/hog")
def hogged() -> str:
    """A thread that keeps the interpreter lock busy for ``ms``."""
    threading.Thread(target=hog, args=(number("ms"),), daemon=True).start()
    return "hogged"


@app.get("/gc")
def garbage() -> str:
    """Compute ``ms``, then make ``objects`` thousands of objects in cycles and collect ``times``."""
    burn(number("ms"))
    if count := int(number("objects")) * 1_000:
        gc.disable()
        kept: list[list[object]] = [[] for _ in range(count)]
        for one in kept:
            one.append(one)
        gc.enable()
        for _ in range(int(number("times", 1))):
            gc.collect()
        del kept, one
    return "done"


@app.get("/pool")
def pooled() -> str:
    """Compute ``ms`` in a pool of two threads."""
    pool.submit(burn, number("ms")).result()
    return "done"


@app.put("/pool")
def fill() -> str:
    """Fill the pool for ``ms``."""
    for _ in range(2):
        pool.submit(time.sleep, number("ms") / 1_000)
    return "full"


@app.get("/map")
def mapped() -> str:
    """Read ``reads`` random pages of ``mib`` of a mapped file, all of which this process has read before.

    Pages in memory count for the container that read them first: one that shares the folder may have been before.
    """
    size = int(number("mib", 1)) * MIB
    if size not in read_whole:
        read_whole.add(size)
        evict(file_of("mapped", size))
        with file_of("mapped", size).open("rb") as whole:
            while whole.read(MIB):
                pass
    chance = random.Random()  # noqa: S311 - only a pattern of pages, another one each time
    with file_of("mapped", size).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
        pages.madvise(mmap.MADV_RANDOM)
        total = sum(pages[chance.randrange(size // 4096) * 4096] for _ in range(int(number("reads", 10))))
    return str(total)


@app.get("/first")
def first() -> str:
    """Compute ``ms``; the first request of a process also builds for ``LAB_FIRST_MS``."""
    if not built.is_set():
        built.set()
        burn(FIRST_MS)
    burn(number("ms"))
    return "done"


@app.get("/threads")
@app.get("/pair", endpoint="pair")
def threads() -> str:
    """``k`` threads compute ``ms`` each; the request waits for them all and is one of them."""
    others = [crew.submit(burn, number("ms")) for _ in range(int(number("k", 1)) - 1)]
    burn(number("ms"))
    for other in others:
        other.result()
    return "done"


def sibling(kind: str, stop: threading.Event) -> None:
    """A thread that belongs to no request."""
    while not stop.is_set():
        if kind == "burn":
            burn(50)
        else:
            path = FOLDER / f"sibling-{threading.get_ident()}"
            with path.open("wb") as file:
                file.write(os.urandom(1024) * 256)
                file.flush()
                os.fsync(file.fileno())


@app.put("/siblings")
def set_siblings() -> str:
    """Keep so many threads of the process computing (``burn``) and writing (``write``) from now on."""
    while siblings:
        stop, thread = siblings.pop()
        stop.set()
        thread.join()
    for kind in ("burn", "write"):
        for _ in range(int(number(kind))):
            stop = threading.Event()
            thread = threading.Thread(target=sibling, args=(kind, stop), daemon=True)
            thread.start()
            siblings.append((stop, thread))
    return str(len(siblings))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:8000")
    host, _, port = arguments.parse_args().listen.rpartition(":")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # or a line for each request
    app.run(host, int(port), threaded=True)
