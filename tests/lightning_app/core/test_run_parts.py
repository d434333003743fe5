"""Parts of one run, each with a lock of its own."""

from pathlib import Path

import pytest

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.run_parts import WHOLE, Shard, read_shard
from labelbridge.lightning_app.core.runs import Run, State

IDENTITY = {"model": "m"}


def test_a_shard_is_written_i_of_n():
    assert read_shard("2/4") == Shard(2, 4)
    assert read_shard("1/1") == WHOLE
    assert str(Shard(2, 4)) == "2/4"


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "2/", "a/b", "-1/4", "1/0", "1/2/3", " 1/2"])
def test_anything_else_is_refused(text: str):
    with pytest.raises(InputError, match="shard is .* expected i/n"):
        read_shard(text)


def test_all_shards_together_pick_everything_once():
    plan = list(range(10))
    assert sorted(one for number in range(1, 5) for one in plan[Shard(number, 4).picks]) == plan


def run(out: Path, shard: Shard = WHOLE, identity: dict[str, str] = IDENTITY) -> Run:
    return Run(out, "pseudolabel", identity, shard)


def test_shards_are_at_work_beside_each_other(tmp_path: Path):
    with run(tmp_path, Shard(1, 2)) as one, run(tmp_path, Shard(2, 2)) as two:
        assert one.begin() is State.NEW
        (tmp_path / ".parts").mkdir()
        (tmp_path / ".parts/rows.parquet").write_text("rows")
        assert two.begin() is State.PARTIAL
        assert (tmp_path / ".parts/rows.parquet").is_file()


def test_the_same_shard_twice_is_refused(tmp_path: Path):
    with run(tmp_path, Shard(1, 2)) as one, run(tmp_path, Shard(1, 2)) as again:
        one.begin()
        with pytest.raises(InputError, match=r"another process is writing here \(it holds .lock.1-of-2\)"):
            again.begin()


def test_the_whole_waits_for_shards_and_shards_for_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("labelbridge.lightning_app.core.runs._PATIENCE", 0)
    with run(tmp_path, Shard(1, 2)) as one, run(tmp_path) as whole:
        one.begin()
        with pytest.raises(InputError, match=r"it holds .lock.1-of-2"):
            whole.begin()
    with run(tmp_path) as whole, run(tmp_path, Shard(1, 2)) as one:
        whole.begin()
        with pytest.raises(InputError, match=r"it holds .lock\)"):
            one.begin()


def test_another_run_does_not_replace_one_whose_shards_are_at_work(tmp_path: Path):
    with run(tmp_path, Shard(1, 2)) as one, run(tmp_path, Shard(2, 2), {"model": "other"}) as other:
        one.begin()
        (tmp_path / ".parts").mkdir()
        with pytest.raises(InputError, match="it holds .lock.1-of-2"):
            other.begin(overwrite=True)


def test_a_shard_that_fails_leaves_the_identity_to_the_others(tmp_path: Path):
    one = run(tmp_path, Shard(1, 2))
    one.begin()
    one.__exit__(ValueError, ValueError("out of memory"))
    assert (tmp_path / "_identity.json").is_file()
