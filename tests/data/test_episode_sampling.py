"""Which classes, examples, labels and rotations an episode has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitjax.data.episodes.batching import IndexBatches, stand_ins
from vitjax.data.samplers.episodes import EpisodeSampler, EpisodeSize
from vitjax.data.samplers.streams import Stream, among, draw_without_replacement
from vitjax.data.share import Share


def sampler(
    sizes=(9, 5, 7, 30),
    ways=(3, 3),
    shots=(2, 2),
    queries=3,
    rotations=None,
    seed=0,
    purpose="train",
    before=0,
) -> EpisodeSampler:
    """Over classes of the given sizes; ``before`` images belong to other splits."""
    images = int(np.sum(sizes))
    members = np.arange(before, before + images, dtype=np.int32)
    return EpisodeSampler(
        EpisodeSize(ways, shots, queries),
        members,
        np.array(sizes),
        before + images,
        rotations,
        Stream(seed, purpose),
    )


def chi_squared(counts: np.ndarray) -> float:
    expected = counts.sum() / counts.size
    return float(((counts - expected) ** 2 / expected).sum())


def owner(made: EpisodeSampler, index: np.ndarray) -> np.ndarray:
    """The class of each image, upright or turned."""
    ends = np.cumsum(made.sizes)
    first = made.images - ends[-1]
    return np.searchsorted(ends, index % made.images - first, side="right")


# ------------------------------------------------------------------------------------- randomness


@given(first=st.integers(0, 10**12), count=st.integers(1, 70), cut=st.integers(1, 6))
def test_an_episode_has_its_numbers_whoever_else_is_drawn(first, count, cut):
    stream = Stream(3, "train")
    together = stream.uniforms(first, 7, count)
    apart = [stream.uniforms(first, cut, count), stream.uniforms(first + cut, 7 - cut, count)]
    np.testing.assert_array_equal(together, np.concatenate(apart))
    assert len(np.unique(together)) == together.size  # no stretch reaches into the next one


def test_seeds_and_purposes_have_streams_of_their_own():
    streams = [Stream(s, p) for s in (0, 1) for p in ("train", "evaluate val", "evaluate train")]
    numbers = np.concatenate([s.uniforms(0, 50, 8) for s in streams])
    assert len(np.unique(numbers)) == numbers.size


def test_whole_numbers_reach_both_ends_equally_often():
    counts = np.bincount(among(Stream(0, "x").uniforms(0, 100, 60), (2, 7)).ravel(), minlength=9)
    assert counts[[0, 1, 8]].sum() == 0
    assert chi_squared(counts[2:8]) < 20.5  # 99.9th percentile with 5 degrees of freedom
    assert among(np.array([0.0, 1 - 2**-53]), (2, 7)).tolist() == [2, 7]


@given(
    sizes=st.lists(st.integers(6, 400), min_size=1, max_size=8),
    draws=st.integers(1, 6),
    seed=st.integers(0, 9),
)
def test_draws_never_repeat_and_stay_in_range(sizes, draws, seed):
    uniforms = Stream(seed, "x").uniforms(0, len(sizes), draws)
    drawn = draw_without_replacement(uniforms, np.array(sizes))
    assert all(len(set(row)) == draws for row in drawn.tolist())
    assert (drawn >= 0).all()
    assert (drawn < np.array(sizes)[:, None]).all()


def test_every_order_of_every_subset_is_as_likely_as_the_others():
    drawn = draw_without_replacement(Stream(0, "x").uniforms(0, 6000, 3), np.full(6000, 4))
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == 24  # 4 * 3 * 2
    assert chi_squared(counts) < 49.8  # 99.9th percentile with 23 degrees of freedom


# --------------------------------------------------------------------------------------- episodes


episode_sizes = st.fixed_dictionaries(
    {
        "ways": st.tuples(st.integers(2, 4), st.integers(2, 4)).map(sorted).map(tuple),
        "shots": st.tuples(st.integers(1, 3), st.integers(1, 3)).map(sorted).map(tuple),
        "queries": st.integers(1, 2),
        "rotations": st.sampled_from([None, "classes", "per_class"]),
        "before": st.sampled_from([0, 11]),
        "seed": st.integers(0, 3),
    }
)


@settings(max_examples=60)
@given(keywords=episode_sizes)
def test_an_episode_is_what_it_says(keywords):
    made = sampler(**keywords)
    support, query = made.draw(5, 40)
    ways, shots, queries = keywords["ways"], keywords["shots"], keywords["queries"]
    assert support.index.shape == (40, ways[1] * shots[1])
    assert query.index.shape == (40, ways[1] * queries)
    for chosen in (support, query):
        assert {a.dtype for a in (chosen.index, chosen.target, chosen.classes)} == {
            np.dtype(np.int32)
        }
        turn, upright = np.divmod(chosen.index, made.images)
        assert upright.min() >= keywords["before"]
        assert turn.max() < (1 if keywords["rotations"] is None else 4)
        # The number of a class says the image's class and its rotation, in both modes.
        np.testing.assert_array_equal(chosen.classes, owner(made, chosen.index) + 4 * turn)
    for episode in range(40):
        shown = {
            name: {
                (int(t), int(c), int(i))
                for t, c, i, m in zip(
                    part.target[episode],
                    part.classes[episode],
                    part.index[episode],
                    part.mask[episode],
                    strict=True,
                )
                if m
            }
            for name, part in (("support", support), ("query", query))
        }
        # As many different images of each class as asked for, none in both sets.
        labels = {t for t, _, _ in shown["support"]}
        assert ways[0] <= len(labels) <= ways[1]
        assert labels == set(range(len(labels)))
        per_label = len(shown["support"]) / len(labels)
        assert shots[0] <= per_label <= shots[1]
        assert len(shown["support"]) == support.mask[episode].sum()
        assert len(shown["query"]) == query.mask[episode].sum() == queries * len(labels)
        assert not {i for *_, i in shown["support"]} & {i for *_, i in shown["query"]}
        # One class has one label, in support and query alike.
        pairs = {(t, c) for part in shown.values() for t, c, _ in part}
        assert len(pairs) == len(labels) == len({c for _, c in pairs})
        # What fills the places left is in the episode already, with the label it has there.
        for name, part in (("support", support), ("query", query)):
            arrays = (part.target[episode], part.classes[episode], part.index[episode])
            places = zip(*arrays, strict=True)
            assert {tuple(map(int, p)) for p in places} == shown[name]


@settings(max_examples=30)
@given(keywords=episode_sizes, cut=st.integers(1, 9), first=st.integers(0, 10**9))
def test_episodes_do_not_depend_on_who_is_drawn_with_them(keywords, cut, first):
    made = sampler(**keywords)
    for whole, *parts in zip(
        made.draw(first, 10), made.draw(first, cut), made.draw(first + cut, 10 - cut), strict=True
    ):
        for field in ("index", "target", "classes", "mask"):
            joined = np.concatenate([getattr(part, field) for part in parts])
            np.testing.assert_array_equal(getattr(whole, field), joined)


def test_the_label_of_a_class_is_another_one_in_each_episode():
    # Sorted labels let a network that knows the order guess: 30% before it ever adapted.
    support, _ = sampler(ways=(4, 4), shots=(1, 1)).draw(0, 3000)
    counts = np.zeros((4, 4))
    np.add.at(counts, (support.classes, support.target), 1)
    assert chi_squared(counts) < 27.9  # 99.9th percentile with 9 degrees of freedom


def test_all_classes_and_all_their_images_are_drawn_equally_often():
    support, query = sampler(sizes=(6, 6, 12)).draw(0, 4000)
    support2, _ = sampler(sizes=(6, 6, 12), ways=(2, 2)).draw(0, 6000)
    assert chi_squared(np.bincount(support2.classes.ravel())) < 13.8  # 2 degrees of freedom
    for chosen, draws in ((support, 2), (query, 3)):
        counts = np.bincount(chosen.index.ravel(), minlength=24)
        expected = 4000 * draws / np.repeat([6, 6, 12], [6, 6, 12])
        assert ((counts - expected) ** 2 / expected).sum() < 46  # 21 degrees of freedom


def test_ways_and_shots_of_a_range_are_all_as_likely():
    support, query = sampler(ways=(2, 4), shots=(1, 3), queries=2).draw(0, 3000)
    ways = query.mask.sum(1) // 2
    shots = support.mask.sum(1) // ways
    counts = np.zeros((3, 3))
    np.add.at(counts, (ways - 2, shots - 1), 1)
    assert chi_squared(counts) < 26.1  # 8 degrees of freedom


def test_rotated_classes_stand_beside_the_upright_ones():
    made = sampler(sizes=(8, 8), ways=(5, 5), rotations="classes")  # 8 classes of 2
    support, _ = made.draw(0, 2000)
    counts = np.bincount(support.classes[:, ::2].ravel(), minlength=8)
    assert chi_squared(counts) < 24.3  # 7 degrees of freedom
    together = [set(row) for row in support.classes.tolist()]
    assert any({0, 2} <= row for row in together)  # class 0 upright and turned by 90 degrees


def test_each_class_of_an_episode_has_a_rotation_of_its_own():
    # Where a loop's variable was bound too late, all had that of the last one.
    made = sampler(ways=(4, 4), rotations="per_class")
    support, query = made.draw(0, 2000)
    turns = (support.index // made.images).reshape(2000, 4, 2)
    np.testing.assert_array_equal(turns[..., 0], turns[..., 1])
    of_queries = (query.index // made.images).reshape(2000, 4, 3)
    np.testing.assert_array_equal(of_queries, np.repeat(turns[..., :1], 3, axis=2))
    counts = np.zeros((4, 4))
    np.add.at(counts, (turns[:, 0, 0], turns[:, 3, 0]), 1)
    assert chi_squared(counts) < 37.7  # 15 degrees of freedom: they are independent
    # A character comes but once in an episode, whatever its rotation.
    assert all(len(set(row)) == 4 for row in (support.classes % 4)[:, ::2].tolist())


# ---------------------------------------------------------------------------------------- batches


@settings(max_examples=40)
@given(total=st.integers(1, 23), share=st.integers(1, 5), hosts=st.integers(1, 3))
def test_evaluation_holds_every_episode_once_on_any_number_of_hosts(total, share, hosts):
    made = sampler(purpose="evaluate val")
    size = share * hosts
    parts = [
        IndexBatches(made, Share(size, range(h * share, (h + 1) * share), total=total), None)
        for h in range(hosts)
    ]
    assert {len(part) for part in parts} == {-(-total // size)}
    seen = []
    for number in range(len(parts[0])):
        for part in parts:
            batch = part[number]
            assert batch["mask"].shape == (share,)
            assert batch["support"]["index"].shape == (share, 6)
            assert batch["support"]["mask"].all()  # padding shows images too
            seen.append(batch["support"]["index"][batch["mask"]])
    np.testing.assert_array_equal(np.concatenate(seen), made.draw(0, total)[0].index)


def test_the_nearest_valid_place_stands_in():
    valid = np.array([[1, 0, 0, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]], bool)
    expected = [[0, 0, 0, 3, 3], [3, 3, 2, 3, 3], [0, 1, 2, 3, 4]]
    assert stand_ins(valid).tolist() == expected


def test_corrupt_images_are_masked_and_another_is_shown():
    made = sampler()
    valid = np.ones(made.images, bool)
    valid[::3] = False
    plain = IndexBatches(made, Share(40, range(40)), None)[0]
    batch = IndexBatches(made, Share(40, range(40)), valid)[0]
    for name in ("support", "query"):
        well = valid[plain[name]["index"]]
        np.testing.assert_array_equal(batch[name]["mask"], well)
        np.testing.assert_array_equal(batch[name]["index"][well], plain[name]["index"][well])
        some = well.any(axis=1)
        assert valid[batch[name]["index"][some]].all()
        assert 0.5 < well.mean() < 0.8


@pytest.mark.parametrize("total", [None, 100])
def test_going_on_starts_where_it_was_left(total):
    made = sampler()
    whole = IndexBatches(made, Share(6, range(2, 4), total=total), None)
    later = IndexBatches(made, Share(6, range(2, 4), start=7, total=total), None)
    np.testing.assert_array_equal(whole[9]["query"]["index"], later[2]["query"]["index"])
