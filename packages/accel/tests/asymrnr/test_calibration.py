from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fastvid_accel import AsymRnR, Calibrator
from fastvid_accel.asymrnr.config import Metric
from fastvid_accel.asymrnr.cost import Shape
from fastvid_accel.asymrnr.place import Place
from fastvid_accel.asymrnr.schedule import make_plan, predict
from fastvid_accel.no_acceleration import full_attention
from torch import Tensor

from ..fakes import FakeSite, steps

GRID = (4, 4, 4)
SITES = [FakeSite(block=block, num_blocks=3, grid=GRID) for block in range(3)]


def features(block: int, step: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Queries grow more alike from block to block, values from step to step."""
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(2, 2, 64, 8, generator=generator) for _ in "qkv")
    smooth = [torch.randn(2, 2, 8, 8, generator=generator).repeat_interleave(8, dim=2) for _ in "qv"]
    cells = torch.arange(64).view(4, 4, 4)
    cell = (cells // 32) * 4 + (cells // 8 % 2) * 2 + cells % 4 // 2
    of_q, of_v = (x[:, :, ::8][:, :, cell.flatten()] for x in smooth)
    return 2 * block * of_q + q, k, step * of_v + v


def measure(calibrator: Calibrator, num_steps: int = 4, skip: tuple[int, int] | None = None) -> dict[str, Any]:
    session = calibrator.start(num_steps=num_steps)
    for step in steps(num_steps):
        session.begin_step(step)
        for site in SITES:
            if (site.block, step.index) != skip:
                session.attention(*features(site.block, step.index), site)
    return session.report()


def test_measuring_changes_nothing() -> None:
    session = Calibrator().start(num_steps=1)
    session.begin_step(steps(1)[0])
    inputs = features(1, 1)
    assert torch.equal(session.attention(*inputs, SITES[1]), full_attention(*inputs, SITES[1]))


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "dot"])
def test_what_is_more_alike_gets_a_higher_value(metric: Metric) -> None:
    calibrator = Calibrator(window=2, metric=metric)
    table = calibrator.table(measure(calibrator), model="toy")
    assert table.q is not None
    assert table.kv is not None
    assert table.q[0][0] < table.q[1][0] < table.q[2][0]
    assert all(row[0] < row[1] for row in table.kv)
    for rows in (table.q, table.kv, table.h):
        assert min(map(min, rows or ())) == 0
        assert max(map(max, rows or ())) == 1
    assert (table.grid, table.num_steps, table.window, table.model) == (GRID, 4, 2, "toy")


def test_a_window_counts_with_the_mean_of_its_steps() -> None:
    calibrator = Calibrator(window=2)
    report = measure(calibrator)
    rows = [[0.0, 4.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0], [2.0, 0.0, 0.0, 4.0]]  # mutant: the first step of each alone
    report["distances"]["kv"] = rows
    assert calibrator.table(report, model="toy").kv == ((0.0, 1.0), (1.0, 0.5), (0.5, 0.0))


def test_scale_and_origin_do_not_count() -> None:
    calibrator = Calibrator(window=2)
    probe = calibrator.reducer(num_steps=1)
    place = Place(branch="", block=0, num_blocks=1, step=0, grid=GRID)
    q, k, v = features(1, 1)
    probe.reduce(q, k, v, place)
    probe.reduce(10 * q + 5, k, v, place)
    first, second = probe._distances["q", 0, 0]
    assert first == pytest.approx(second, rel=1e-4)


@pytest.mark.parametrize("saving", [0.08, 0.12])
def test_a_budget_is_reached_and_one_cell_less_would_not_reach_it(saving: float) -> None:
    calibrator = Calibrator(window=2)
    report = measure(calibrator)
    # 64 tokens 16 wide: attention is 40 % of all operations
    accelerator = calibrator.accelerator(report, model="toy", saving=saving)
    ((threshold, _),) = accelerator.config.q
    table = accelerator.table
    assert table is not None

    def gain(accelerator: AsymRnR) -> float:
        plan = make_plan(accelerator.config, table, grid=GRID, num_blocks=3, num_steps=4)
        return predict(plan, Shape(**report["shape"]), metric="euclidean").gain

    assert gain(accelerator) >= saving
    above = min(v for row in (*(table.q or ()), *(table.kv or ())) for v in row if v > threshold)
    config = replace(accelerator.config, q=((above, 0.5),), kv=((above, 0.3),))
    assert gain(AsymRnR(config, table)) < saving


def test_a_budget_out_of_reach_is_refused_with_what_is_in_reach() -> None:
    calibrator = Calibrator(window=2)
    report = measure(calibrator)
    with pytest.raises(ValueError, match="reducing every block and step at rates"):
        calibrator.accelerator(report, model="toy", saving=0.9)
    with pytest.raises(ValueError, match="`saving` is 0"):
        calibrator.accelerator(report, model="toy", saving=0.0)
    with pytest.raises(ValueError, match="saves 0"):
        calibrator.accelerator(report, model="toy", saving=0.1, q_rate=0.0, kv_rate=0.0)


def test_a_video_with_gaps_is_refused() -> None:
    calibrator = Calibrator(window=2)
    with pytest.raises(ValueError, match="measure a whole video"):
        calibrator.table(measure(calibrator, skip=(1, 2)), model="toy")
    session = calibrator.start(num_steps=1)
    session.begin_step(steps(1)[0])
    session.attention(*features(0, 0), SITES[0])
    with pytest.raises(ValueError, match="calibrate without an accelerator"):
        session.attention(*(x[:, :, :32] for x in features(0, 0)), FakeSite(block=1, num_blocks=3, grid=(2, 4, 4)))


def test_random_measures_nothing_and_is_refused() -> None:
    with pytest.raises(ValueError, match="measures nothing"):
        Calibrator(metric="random")


def test_settings_go_to_a_file_and_back(tmp_path: Path) -> None:
    calibrator = Calibrator(window=2)
    accelerator = calibrator.accelerator(measure(calibrator), model="toy", saving=0.05)
    accelerator.save(tmp_path / "settings.json")
    assert AsymRnR.load(tmp_path / "settings.json", model="toy") == accelerator
    session = accelerator.start(num_steps=4)
    for step in steps(4):
        session.begin_step(step)
        for site in SITES:
            session.attention(*features(site.block, step.index), site)
    assert session.report()["flops"]["removed_share"] >= 0.05
