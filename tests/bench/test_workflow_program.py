"""The workflow benchmark runs a small shape; what peers tell makes the same figures as what our bodies tell."""

from __future__ import annotations

from bench.workflow_luigi import BEFORE
from bench.workflow_measure import Rounds, edges_ms, quantiles, rate
from bench.workflow_peers import PEERS
from tests.bench.lines import last_line


def test_a_small_chain() -> None:
    found = last_line("workflow", "chain", "--n", "5", "--repeat", "1", "--peers", "pool")
    ours = found["ours"]
    assert ours["tasks_per_s"] == ours["figure"]
    assert 0 < ours["edge_p50_ms"] <= ours["edge_p99_ms"]
    assert found["peers"]["pool"]["rows_compared"] == 5


def test_figures_of_bodies() -> None:
    ms = 1_000_000
    bodies = [(3 * ms, 4 * ms), (10 * ms, 11 * ms), (6 * ms, 8 * ms)]
    assert edges_ms(bodies) == [2.0, 2.0]
    assert rate(bodies, 1 * ms) == 300.0
    assert quantiles([3.0, 1.0, 2.0]) == {"p50": 2.0, "p99": 3.0}


def test_rounds_come_back_as_they_were_written() -> None:
    rounds = Rounds("1.2")
    rounds.add(0, 20_000_000, [(1_000_000, 2_000_000), (5_000_000, 6_000_000)])
    assert Rounds.read(rounds.written()) == rounds
    assert (rounds.rates(), rounds.edges_ms(), rounds.starts_ms()) == ([100.0], [3.0], [1.0])


def test_runs_of_ten_wait_as_ours_do() -> None:
    assert [list(BEFORE["many"](number)) for number in (10, 11, 18, 19)] == [[], [10], [10], list(range(11, 19))]


def test_a_shape_that_means_nothing_to_a_peer_is_left_out() -> None:
    assert [peer("watermark", 1, 1) for peer in PEERS.values()] == [None] * len(PEERS)
