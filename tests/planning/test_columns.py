from dataclasses import dataclass

import numpy as np
import pytest
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from stages.planning.columns import records_of, schema_of, table_of


@dataclass(frozen=True)
class Wheel:
    names: tuple[str, ...]
    radii_m: NDArray[np.float64]


@dataclass(frozen=True)
class Car:
    name: str
    doors: int
    wheel: Wheel
    seats: Bool[np.ndarray, "h w"] | None
    paths_m: tuple[Float[np.ndarray, "P 2"], ...]
    owner: str | None


CAR = Car("a", 5, Wheel(("l", "r"), np.array([0.1, np.nan])), np.array([[True, False, True]]), (np.ones((3, 2)),), None)
BARE = Car("b", 0, Wheel((), np.empty(0)), None, (), "someone")


def there_and_back(*cars: Car) -> list[Car]:
    return list(records_of(table_of(cars, Car), Car))


def test_every_field_comes_back_with_its_shape_and_kind() -> None:
    car, bare = there_and_back(CAR, BARE)
    assert (car.name, car.doors, car.owner, car.wheel.names) == ("a", 5, None, ("l", "r"))
    assert car.seats is not None
    assert (car.seats.dtype, car.seats.tolist()) == (np.dtype(bool), [[True, False, True]])
    assert [path.tolist() for path in car.paths_m] == [np.ones((3, 2)).tolist()]
    assert (bare.seats, bare.paths_m, bare.wheel.names, bare.owner) == (None, (), (), "someone")
    assert (bare.wheel.radii_m.dtype, bare.wheel.radii_m.shape) == (np.dtype(float), (0,))


def test_every_bit_of_a_number_comes_back() -> None:
    radii_m = np.array([np.nan, -0.0, 5e-324, 1 / 3, np.inf])
    (car,) = there_and_back(Car("a", 1, Wheel((), radii_m), None, (), None))
    assert car.wheel.radii_m.tobytes() == radii_m.tobytes()


def test_the_columns_are_those_of_the_fields_even_where_all_are_empty() -> None:
    assert table_of([BARE], Car).schema == table_of([CAR], Car).schema == schema_of(Car) != schema_of(Wheel)
    assert table_of([], Car).num_rows == 0


def test_what_comes_back_cannot_be_written_to() -> None:
    (car,) = there_and_back(CAR)
    assert car.seats is not None
    for array in (car.seats, car.wheel.radii_m):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_a_field_without_a_kind_of_column_is_named() -> None:
    @dataclass(frozen=True)
    class Odd:
        table: dict[str, int]

    with pytest.raises(TypeError, match=r"no kind of column holds dict\[str, int\]"):
        schema_of(Odd)
