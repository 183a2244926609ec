"""Each row has random numbers of its own, which depend on its seed and place only."""

import numpy as np
import pytest

from charnn.sampling.noise import GumbelNoise, row_seed


def noise(seeds: list[int], temperature: float = 1.0) -> GumbelNoise:
    return GumbelNoise(seeds, np.zeros((len(seeds), 7), np.float32), temperature)


def test_seeds_of_samples_are_distinct() -> None:
    seeds = [row_seed(seed, index) for seed in range(20) for index in range(500)]
    assert len(set(seeds)) == len(seeds)
    assert row_seed(7, 0) == 7
    assert max(seeds) < 2**53


def test_the_noise_of_seeds_and_of_places_is_uncorrelated() -> None:
    rows = noise([3, 4, row_seed(3, 1), row_seed(4, 1)])
    drawn = np.stack([rows.next().argmax(-1) for _ in range(3000)], 1).astype(float)
    streams = np.concatenate((drawn[:, 1:], drawn[:1, :-1]))  # the first one a place later too
    assert abs(np.corrcoef(streams) - np.eye(5)).max() < 0.1


@pytest.mark.parametrize("count", [1, 3, 300])
def test_a_row_depends_on_its_seed_and_place_only(count: int) -> None:
    expected = np.stack([noise([n]).next_places(900)[0] for n in (0, 1, 2, 9)])
    rows = noise([0, 1, 2])
    first = rows.next_places(count)
    assert np.array_equal(first, expected[:3, :count])
    rows.select([2, 0])
    rows.restart(1, 9)
    second = np.stack([rows.next() for _ in range(count)], 1)
    assert np.array_equal(second[0], expected[2, count : 2 * count])
    assert np.array_equal(second[1], expected[3, :count])


def test_temperature_scales_the_noise() -> None:
    assert np.allclose(noise([1], 0.5).next(), noise([1]).next() / 2)
    assert not noise([1], 0.0).next().any()
