"""Parts of one run that several processes compute beside each other, on any machines that see its folder.

The batches of a predict or a test are planned from the complete input; shard i of n computes every n-th of them, from
the i-th on; of a clean, what can be said of every n-th row without the others. All shards spool finished rows into the
run's own folder. The run without a shard finds them there, and puts them together: the same rows, to the same bits, as
if it had computed them itself.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from .errors import InputError


@dataclass(frozen=True)
class Shard:
    """A part of a run.

    Args:
        number: Which one, from 1.
        of: How many there are.
    """

    number: int = 1
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def picks(self) -> slice:
        """Its share of a plan."""
        return slice(self.number - 1, None, self.of)


WHOLE = Shard()


def read_shard(text: str) -> Shard:
    """`2/4` is the second of four.

    Raises:
        InputError: If it is something else.
    """
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    number, of = (int(one) for one in found.groups()) if found else (0, 0)
    if not 1 <= number <= of:
        raise InputError(f"shard is {text!r}, expected i/n with 1 <= i <= n, such as 2/4 for the second of four")
    return Shard(number, of)


def finished_line(out: Path, shard: Shard, finished: int, rows: int) -> str:
    """What a shard ends with.

    Args:
        out: The run's output folder.
        shard: The shard.
        finished: How many rows are on the disk, those of other shards included.
        rows: How many rows there are.
    """
    return (
        f"{out}: shard {shard} is finished, {finished} of all {rows} rows are on the disk; when all shards are "
        "through, the same command without --shard puts them together"
    )
