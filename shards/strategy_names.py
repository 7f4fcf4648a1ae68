"""What the strategies are called, for those who must not import numpy; what they do stands in `strategies`."""

from typing import Final, Literal

StrategyName = Literal["sum_scores", "best_score"]
DEFAULT_STRATEGY: Final = "sum_scores"
