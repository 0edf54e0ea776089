import torch

from stages.masks.grounding.pixels import dino_size_px
from stages.masks.grounding.sam import as_bits, by_class, in_sight

ROAD, VEHICLE, HUMAN, SIGN, BARRIER = range(5)


def strip(*columns: int) -> torch.Tensor:
    """A mask of one row and four columns."""
    mask = torch.zeros(1, 4, dtype=torch.bool)
    mask[0, list(columns)] = True
    return mask


def class_map(masks: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    return in_sight(by_class(masks, classes))


def test_what_stands_on_the_road_is_in_front_of_it_whatever_the_order_of_the_boxes() -> None:
    masks = torch.stack([strip(1), strip(0, 1, 2, 3), strip(2), strip(1, 2, 3)])
    classes = torch.tensor([HUMAN, ROAD, BARRIER, VEHICLE])
    expected = [[ROAD + 1, HUMAN + 1, BARRIER + 1, VEHICLE + 1]]
    assert class_map(masks, classes).tolist() == expected
    assert class_map(masks.flip(0), classes.flip(0)).tolist() == expected


def test_what_is_hidden_stays_in_its_layer() -> None:
    masks = torch.stack([strip(1), strip(0, 1, 2), strip(2)])
    layers = by_class(masks, torch.tensor([HUMAN, ROAD, ROAD]))
    assert layers[ROAD].tolist() == [[True, True, True, False]]
    assert layers[HUMAN].tolist() == [[False, True, False, False]]
    assert as_bits(layers).tolist() == [[1 << ROAD, 1 << ROAD | 1 << HUMAN, 1 << ROAD, 0]]
    assert torch.equal(in_sight(layers) > 0, masks.any(0))


def test_grounding_dino_reads_the_sizes_of_its_own_demo() -> None:
    assert dino_size_px((1600, 900)) == (1333, 750)
    assert dino_size_px((900, 1600)) == (750, 1333)
    assert dino_size_px((640, 480)) == (1066, 800)
