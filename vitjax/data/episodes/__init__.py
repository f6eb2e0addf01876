"""Few-shot learning: episodes of a support set and a query set, drawn from any source."""

from vitjax.data.episodes import class_splits
from vitjax.data.episodes.batching import look_up
from vitjax.data.episodes.functions import FunctionEpisodes
from vitjax.data.episodes.images import ImageEpisodes
from vitjax.data.episodes.loader import EpisodeData, Family

__all__ = ["EpisodeData", "Family", "FunctionEpisodes", "ImageEpisodes", "class_splits", "look_up"]
