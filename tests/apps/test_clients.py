"""Clients of databases and services: each call has a span of its own, and is what a slow request is blamed on."""

from __future__ import annotations

import contextlib
import getpass
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.redis_server import redis_server
from apps.stage import CALL, App, Expected, Stage, free_port
from waiting import PATIENCE_S

TEXT = """
import sys
import aiohttp, asyncpg, boto3, httpx, psycopg, redis, requests, sqlalchemy
from fastapi import FastAPI
import cases

app = FastAPI()
POSTGRES = "host=127.0.0.1 port=@POSTGRES user=layerline dbname=postgres"
engine = sqlalchemy.create_engine("postgresql+psycopg://layerline@127.0.0.1:@POSTGRES/postgres")
SLEEP = "SELECT pg_sleep(0.3)"

@app.get("/psycopg")
def psycopg_():
    with psycopg.connect(POSTGRES) as connection:
        connection.execute(SLEEP).fetchall()

@app.get("/sqlalchemy")
def sqlalchemy_():
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(SLEEP)).fetchall()

@app.get("/asyncpg")
async def asyncpg_():
    connection = await asyncpg.connect(host="127.0.0.1", port=@POSTGRES, user="layerline", database="postgres")
    try:
        await connection.fetch(SLEEP)
    finally:
        await connection.close()

@app.get("/redis")
def redis_():
    redis.Redis(port=@REDIS).blpop("nothing", timeout=0.3)

@app.get("/httpx")
def httpx_():
    return httpx.get(cases.SLOW, timeout=60).text

@app.get("/requests")
def requests_():
    return requests.get(cases.SLOW, timeout=60).text

@app.get("/aiohttp")
async def aiohttp_():
    async with aiohttp.ClientSession() as session, session.get(cases.SLOW) as answer:
        return await answer.text()

s3 = boto3.client(
    "s3",
    endpoint_url=cases.SLOW,
    region_name="eu-west-1",
    aws_access_key_id="x",
    aws_secret_access_key="x",
    config=boto3.session.Config(s3={"addressing_style": "path"}),
)

@app.get("/boto3")
def boto3_():
    return s3.get_object(Bucket="shop", Key="cart")["Body"].read().decode()
"""

GRPC = """
import sys, time
from concurrent import futures
import grpc
from flask import Flask

def slow(request, context):
    time.sleep(0.3)
    return request

class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(slow)

server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Handler()])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
app = Flask("shop")

@app.get("/call")
def call():
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        return channel.unary_unary("/shop.Shop/Slow")(b"ok")
"""


@contextlib.contextmanager
def postgres() -> Iterator[int]:
    """A PostgreSQL of the test's own; skipped where the machine has none."""
    if not (shutil.which("postgres") and shutil.which("initdb")):
        pytest.skip("there is no PostgreSQL on PATH (Debian: postgresql, and /usr/lib/postgresql/*/bin)")
    # It refuses to run as root. The folders of tests are closed to others, anew with each run of pytest.
    other = ["runuser", "-u", "nobody", "--"] if getpass.getuser() == "root" else []
    with tempfile.TemporaryDirectory(prefix="layerline-postgres-") as folder:
        data = Path(folder)
        if other:
            shutil.chown(data, "nobody")
        yield from _postgres(data, other)


def _postgres(data: Path, other: list[str]) -> Iterator[int]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    subprocess.run(
        [*other, "initdb", "-D", data, "-U", "layerline", "--auth=trust", "--no-sync"],
        check=True,
        **quiet,  # type: ignore[call-overload]
    )
    port = free_port()
    started = ["-o", f"-p {port} -k '' -h 127.0.0.1 -F", "-l", data / "log", "-w", "-t", str(int(PATIENCE_S))]
    subprocess.run([*other, "pg_ctl", "-D", data, *started, "start"], check=True, **quiet)  # type: ignore[call-overload]
    try:
        yield port
    finally:
        stop = ["-m", "immediate", "stop"]
        subprocess.run([*other, "pg_ctl", "-D", data, *stop], check=False, **quiet)  # type: ignore[call-overload]


@pytest.mark.apps
def test_clients(stage: Stage) -> None:
    """A statement, a command or a request that takes long is the dependency's time, whichever library makes it."""
    with postgres() as sql, redis_server(stage.folder) as key_value:
        text = TEXT.replace("@POSTGRES", str(sql)).replace("@REDIS", str(key_value))
        packages = ("psycopg", "sqlalchemy", "asyncpg", "redis", "httpx", "requests", "aiohttp", "boto3")
        command = "{python} -m uvicorn --log-level warning --port {port} app:app"
        stage.play(App("clients", text, command, dict.fromkeys(packages, CALL), packages, streams=False, fails=None))


@pytest.mark.apps
def test_grpc(stage: Stage) -> None:
    """A slow method of a gRPC service is the server's own sleep, seen through the call."""
    command = "{python} -m gunicorn --no-control-socket -b 127.0.0.1:{port} app:app"
    slept = {"call": Expected("app.blocked", "slow")}
    stage.play(App("grpc", GRPC, command, slept, ("grpcio",), streams=False, fails=None))
