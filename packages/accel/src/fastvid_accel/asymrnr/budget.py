"""One knob: the share of operations to save, spent where tokens are most alike."""

from fastvid_accel.asymrnr.accelerator import AsymRnR
from fastvid_accel.asymrnr.config import AsymRnRConfig
from fastvid_accel.asymrnr.cost import Shape
from fastvid_accel.asymrnr.schedule import make_plan, predict
from fastvid_accel.asymrnr.similarity import SimilarityTable


def fit_budget(
    table: SimilarityTable, shape: Shape, *, saving: float, q_rate: float = 0.5, kv_rate: float = 0.3, seed: int = 0
) -> AsymRnR:
    """The highest threshold, the same for queries and for keys and values, with which the saving is reached.

    Args:
        shape: of attention in the video that was measured.
        saving: share of the transformer's operations, in (0, 1), matching paid for; reached or exceeded by one cell.
        q_rate, kv_rate: of the cells above the threshold; 0 leaves a feature whole.
    Raises:
        ValueError: `saving` out of range, or more than reducing every cell saves.
    Source: AsymRnR, section 3.4, reduces "the top 60 % of the most similar parts"; the paper tuned rates by hand.
    """
    if not 0 < saving < 1:
        raise ValueError(f"`saving` is {saving}; expected a share between 0 and 1, such as 0.05 or 0.1")

    def at(threshold: float) -> AsymRnR:
        # min_gain is of users who switch something on by name; who asks for a saving has asked
        config = AsymRnRConfig(
            q=((threshold, q_rate),) if q_rate else (),
            kv=((threshold, kv_rate),) if kv_rate else (),
            stride=table.stride,
            metric=table.metric,
            window=table.window,
            seed=seed,
            min_gain=0.0,
        )
        return AsymRnR(config, table)

    def gain(accelerator: AsymRnR) -> float:
        plan = make_plan(
            accelerator.config, table, grid=table.grid, num_blocks=table.num_blocks, num_steps=table.num_steps
        )
        return predict(plan, shape, metric=accelerator.config.metric).gain

    rows = [row for feature, rate in ((table.q, q_rate), (table.kv, kv_rate)) if feature and rate for row in feature]
    thresholds = sorted({value for row in rows for value in row})
    most = gain(at(thresholds[0])) if thresholds else 0.0
    if most < saving:
        raise ValueError(
            f"`saving` is {saving:g}; reducing every block and step at rates {q_rate:g} (q) and {kv_rate:g} (kv) saves"
            f" {most:.4f}: ask for less, or raise the rates"
        )
    low, high = 0, len(thresholds) - 1  # reached at low; a higher threshold saves less
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if gain(at(thresholds[middle])) >= saving else (low, middle - 1)
    return at(thresholds[low])
