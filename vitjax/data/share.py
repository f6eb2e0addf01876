"""Which part of a sequence of examples a host has."""

from __future__ import annotations

from dataclasses import dataclass

from vitjax.core.errors import ConfigError

WHERE = "config.data"

ENDLESS = 2**60  # the length of what has no end; Grain needs one


@dataclass(frozen=True)
class Share:
    """This host's rows of every batch of a sequence.

    Attributes:
        batch_size: of the global batch, over all hosts.
        rows: this host's part of each global batch.
        start: the number of the first batch.
        total: the length of the sequence; None if it has no end.
    """

    batch_size: int
    rows: range
    start: int = 0
    total: int | None = None

    def __len__(self) -> int:
        return ENDLESS if self.total is None else -(-self.total // self.batch_size)

    def positions(self, index: int) -> range:
        """The positions in the sequence of this host's rows of batch ``index``, without padding."""
        first = (self.start + index) * self.batch_size
        positions = range(first + self.rows.start, first + self.rows.stop)
        if self.total is None:
            return positions
        return range(min(positions.start, self.total), min(positions.stop, self.total))


def rows_of(batch_size: int, process_index: int, process_count: int, key: str) -> range:
    """The rows of a global batch that belong to one host.

    Raises:
        ConfigError: ``batch_size``, the value of ``key``, is not divisible by the number of hosts.
    """
    if batch_size % process_count:
        near = -(-batch_size // process_count) * process_count
        raise ConfigError(
            f"{WHERE}.{key} is {batch_size}; it must be divisible by the number of hosts,"
            f" {process_count}, such as {near}"
        )
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index {process_index} of {process_count} processes")
    share = batch_size // process_count
    return range(process_index * share, (process_index + 1) * share)
