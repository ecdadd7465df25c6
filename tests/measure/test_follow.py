"""A load that follows its deployment: servers that take over, and the feed."""

import json
import threading
import time
from pathlib import Path

import pytest

from igniter_opt.base.files import write_bytes_atomically
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.deploy.endpoints import Endpoints, Follower
from igniter_opt.guard.feed import FeedReader
from igniter_opt.measure.options import MeasureOptions
from igniter_opt.measure.run import measure
from tests.measure.fake_server import Behaviour, endpoints_of, serving

CONSTANT = Arrivals("constant")


def write(endpoints: Endpoints, path: Path) -> None:
    write_bytes_atomically(path, json.dumps(endpoints.model_dump(mode="json", by_alias=True)).encode())


def test_the_follower_sees_every_new_file_once(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.json"
    follower = Follower(path)
    assert follower.changed() is None
    first = endpoints_of(("127.0.0.1:8001", "http://127.0.0.1:8000"), rate=1.0)
    write(first, path)
    assert follower.changed() == first
    assert follower.changed() is None
    path.write_text("{")
    assert follower.changed() is None
    second = endpoints_of(("127.0.0.1:9001", "http://127.0.0.1:9000"), rate=1.0)
    write(second, path)
    assert follower.changed() == second
    path.unlink()
    assert follower.changed() is None


@pytest.mark.parametrize("shared", [False, True])
def test_requests_go_to_the_new_server_and_none_fails(tmp_path: Path, shared: bool) -> None:
    """The old server is slow: what is under way there when the new one takes over finishes there."""
    path, feed = tmp_path / "endpoints.json", tmp_path / "feed.jsonl"
    reader = FeedReader(feed)
    slow, quick = Behaviour(service_s=0.5), Behaviour(service_s=0.01)
    with serving(slow) as old, serving(quick) as new:
        write(endpoints_of(old, rate=100), path)

        def switch() -> None:
            while len(slow.arrivals) < 100:
                time.sleep(0.01)
            write(endpoints_of(new, rate=100), path)

        thread = threading.Thread(target=switch)
        thread.start()
        options = MeasureOptions(arrivals=CONSTANT, duration_s=3.0, warm_up_s=0.0, shared_memory=shared)
        found = measure(endpoints_of(old, rate=100), options, follow=path, feed=feed)
        thread.join()
    assert not slow.regions and not quick.regions
    (workload,) = found.workloads
    assert (workload.requests, workload.answered, workload.failed) == (300, 300, 0)
    (switched,) = found.switches
    assert (switched.workload, switched.replica, switched.before, switched.after) == ("W", 1, old[0], new[0])
    assert 0.9 < switched.at_s < 2.0
    assert workload.server is not None and workload.server.requests > 250

    lines = reader.read()
    by_server = {at: [x for line in lines if line.server == at for x in line.latencies_ms] for at in (old[0], new[0])}
    assert sum(map(len, by_server.values())) == 300
    assert len(by_server[new[0]]) == len(quick.arrivals)
    assert min(by_server[old[0]]) >= 500.0
    assert sorted(by_server[new[0]])[len(by_server[new[0]]) // 2] < 100.0
    assert sum(line.failed for line in lines) == 0


def test_a_server_that_does_not_listen_does_not_take_over(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.json"
    with serving(Behaviour()) as place:
        write(endpoints_of(("127.0.0.1:1", "http://127.0.0.1:2"), rate=50), path)
        options = MeasureOptions(arrivals=CONSTANT, duration_s=1.0, warm_up_s=0.0)
        found = measure(endpoints_of(place, rate=50), options, follow=path)
    assert (found.workloads[0].failed, found.switches) == (0, ())


def test_failures_are_fed(tmp_path: Path) -> None:
    feed = tmp_path / "feed.jsonl"
    with serving(Behaviour(fail=True, good=11)) as place:
        options = MeasureOptions(arrivals=CONSTANT, duration_s=0.5, warm_up_s=0.0)
        found = measure(endpoints_of(place, rate=50), options, feed=feed)
    lines = [json.loads(line) for line in feed.read_text().splitlines()]
    assert sum(line["failed"] for line in lines) == found.workloads[0].failed == 15
    assert sum(len(line["latencies_ms"]) for line in lines) == 10
    assert all(line["workload"] == "W" and line["server"] == place[0] for line in lines)


@pytest.mark.parametrize("pace", [1.0, 0.5])
def test_the_feed_is_in_the_servers_time(tmp_path: Path, pace: float) -> None:
    feed = tmp_path / "feed.jsonl"
    with serving(Behaviour(service_s=0.1)) as place:
        options = MeasureOptions(arrivals=CONSTANT, duration_s=1.0, warm_up_s=0.0, pace=pace)
        measure(endpoints_of(place, rate=20), options, feed=feed)
    latencies = [x for line in feed.read_text().splitlines() for x in json.loads(line)["latencies_ms"]]
    assert 100.0 * pace <= min(latencies) < 100.0 * pace + 50.0
