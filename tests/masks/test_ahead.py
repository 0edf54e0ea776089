import threading

import pytest

from stages.masks.ahead import ahead


def test_results_come_in_order_whichever_is_done_first() -> None:
    second = threading.Event()

    def work(item: int) -> int:
        if item == 1:
            second.set()
        elif item == 0:
            assert second.wait(10)  # ends after the one behind it
        return item * 10

    assert list(ahead(work, range(4), 2, 3)) == [0, 10, 20, 30]


def test_no_more_is_under_way_than_was_said() -> None:
    drawn = list[int]()

    def items() -> range:
        for item in range(9):
            drawn.append(item)
            yield item

    results = ahead(lambda item: item, items(), 2, 3)
    assert drawn == []
    assert next(results) == 0
    assert drawn == [0, 1, 2, 3]
    results.close()
    assert len(drawn) == 4


def test_an_error_comes_where_its_result_would() -> None:
    results = ahead(lambda item: 6 // item, [1, 2, 0, 3], 1, 1)
    assert [next(results), next(results)] == [6, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
