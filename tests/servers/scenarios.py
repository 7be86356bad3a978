"""What befalls a store while it is used: each gets a fleet, a load on it, and how many seconds it should last."""

from __future__ import annotations

import os
import shutil
import signal
from typing import Any

from redis.crc import key_slot
from redis_kit import LOCAL, Cluster, Redis, Sentinels, until

from servers.fleets import WORKERS, Fleet
from servers.load import Load


def restarted_with_its_data(fleet: Fleet[Redis], load: Load, seconds: float) -> None:
    with load.fault():
        fleet.store.kill()
        load.lasts(seconds)
        fleet.store.start()


def restarted_empty(fleet: Fleet[Redis], load: Load, seconds: float) -> None:
    with load.fault():
        fleet.store.kill()
        load.lasts(seconds)
        for path in fleet.store.folder.glob("appendonly*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        load.forget()
        fleet.store.start()


def stopped(fleet: Fleet[Any], load: Load, seconds: float) -> None:
    """By SIGSTOP, for longer than the timeout."""
    with load.fault(), fleet.store.paused():
        load.lasts(seconds)


def slow(fleet: Fleet[Redis], load: Load, seconds: float) -> None:
    """By 200 ms for each call."""
    delayed(fleet, load, seconds, 0.2)


def short_of_connections(fleet: Fleet[Redis], load: Load, seconds: float) -> None:
    """More is asked at a time than connections can carry."""
    delayed(fleet, load, seconds, 0.06)


def delayed(fleet: Fleet[Redis], load: Load, seconds: float, delay: float) -> None:
    with load.fault():
        fleet.proxy.delay = delay / 2
        load.lasts(seconds)
        fleet.proxy.delay = 0.0


def half_open(fleet: Fleet[Any], load: Load, seconds: float) -> None:
    """Nothing arrives any more, and no connection is closed."""
    with load.fault():
        fleet.proxy.swallows = True
        load.lasts(seconds)
        fleet.proxy.cut()
        fleet.proxy.swallows = False


def push_cut(fleet: Fleet[Redis], load: Load, seconds: float) -> None:
    """Only what the guards listen by."""
    until("each process listens", lambda: listeners(fleet) == WORKERS)
    fleet.proxy.deafen()
    until("nobody listens", lambda: listeners(fleet) == 0)
    load.lasts(seconds)
    fleet.proxy.deaf = False
    until("all listen again", lambda: listeners(fleet) == WORKERS)
    load.more(10)


def listeners(fleet: Fleet[Redis]) -> int:
    """How many processes listen for endings."""
    return int(fleet.store.raw("PUBSUB", "NUMSUB", "jwtguard:ended")[1])


def worker_killed(fleet: Fleet[Any], load: Load, seconds: float) -> None:
    """One of each server, in the middle of what it does."""
    with load.fault():
        for server in fleet.servers:
            with server.client() as client:
                os.kill(int(client.home().headers["x-worker"]), signal.SIGKILL)
        load.lasts(seconds)


def sentinel_failover(fleet: Fleet[Sentinels], load: Load, seconds: float) -> None:
    """The master is killed, and a replica promoted. Endings wait for a replica; the rest is given the time to get there."""
    master = fleet.store.master
    assert master is not None
    with load.fault():
        with load.without("log_in", "refresh"):
            master("WAIT", 1, 5000)
            master.kill()
            load.lasts(seconds)
        until("another master", lambda: fleet.store.master not in (None, master))


def sentinel_failover_under_writes(fleet: Fleet[Sentinels], load: Load, seconds: float) -> None:
    """The same in the middle of logins and refreshes, which wait for no replica: the last ones may be lost."""
    master = fleet.store.master
    assert master is not None
    with load.fault():
        master.kill()
        until("another master", lambda: fleet.store.master not in (None, master))
    load.lasts(seconds)


def cluster_failover(fleet: Fleet[Cluster], load: Load, seconds: float) -> None:
    """The same of one master of three."""
    master = fleet.store.masters[0]
    with load.fault():
        with load.without("log_in", "refresh"):
            master("WAIT", 1, 5000)
            master.kill()
            load.lasts(seconds)
        until("its slots have a master", lambda: len(fleet.store.masters) == Cluster.MASTERS)
        master.start()


def slots_moved(fleet: Fleet[Cluster], load: Load, seconds: float) -> None:
    """Those of all users that one master has move to another, and their documents with them."""
    of_masters = {master: [name.decode() for name in master.raw("KEYS", "*")] for master in fleet.store.masters}
    source = max(of_masters, key=lambda master: len(of_masters[master]))  # a few users may all be the others'
    target = next(master for master in of_masters if master is not source)
    assert of_masters[source]
    for name in of_masters[source]:
        move(fleet.store, key_slot(name.encode()), source, target)
    load.lasts(seconds)


def move(cluster: Cluster, slot: int, source: Redis, target: Redis) -> None:
    target.raw("CLUSTER", "SETSLOT", slot, "IMPORTING", source.raw("CLUSTER", "MYID"))
    source.raw("CLUSTER", "SETSLOT", slot, "MIGRATING", target.raw("CLUSTER", "MYID"))
    while names := source.raw("CLUSTER", "GETKEYSINSLOT", slot, 10):
        source.raw("MIGRATE", LOCAL, target.port, "", 0, 5000, "KEYS", *names)
    for node in (target, source, *cluster.masters):
        node.raw("CLUSTER", "SETSLOT", slot, "NODE", target.raw("CLUSTER", "MYID"))


def sql_restarted(fleet: Fleet[Any], load: Load, seconds: float) -> None:
    with load.fault():
        fleet.store.kill()
        load.lasts(seconds)
        fleet.store.start()
        fleet.proxy.target = fleet.store.port
