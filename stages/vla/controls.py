"""Controls of a driver: the same speed and prompt, with the images of somewhere else or with nothing on them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

from stages.core.errors import DataError
from stages.scenes.base import Frame
from stages.scenes.nuscenes import Scenes


def partners(scene_of: Mapping[str, str]) -> dict[str, str]:
    """For each sample token (`scene_of` maps it to its scene) one of another scene, half the split further on.

    Raises DataError when all are of one scene.
    """
    tokens = list(scene_of)
    if len(set(scene_of.values())) < 2:
        raise DataError(
            expected="an evaluation split of at least two scenes, for the image of another one",
            got=f"{len(tokens)} key frames of {len(set(scene_of.values()))}",
            fix="choose another scenes.eval_split, or take other_image out of grid.references",
        )
    half = len(tokens) // 2
    ring = tokens * 3

    def partner(i: int) -> str:
        return next(other for other in islice(ring, i + half, None) if scene_of[other] != scene_of[tokens[i]])

    return {token: partner(i) for i, token in enumerate(tokens)}


def with_images_of(frame: Frame, other: Frame) -> Frame:
    """`frame` as it was driven, seen through the cameras of `other`."""
    return replace(frame, cameras=other.cameras)


def blackened(frame: Frame, folder: Path) -> Frame:
    """`frame` with black images of the same size, which are written into `folder`."""
    cameras = {name: replace(camera, path=_black(folder, camera.size_px)) for name, camera in frame.cameras.items()}
    return replace(frame, cameras=cameras)


def _black(folder: Path, size_px: tuple[int, int]) -> Path:
    from PIL import Image

    path = folder / f"{size_px[0]}x{size_px[1]}.png"
    if not path.is_file():
        Image.new("RGB", size_px).save(path)
    return path


def frames_of(row: str, scenes: Scenes, split: str, folder: Path) -> Callable[[str], Frame]:
    """Return the function that gives a row of the grid the frame of a sample token, as recorded or as a control has it.

    Black images are written into `folder`; those of another scene are of `split`, DataError when it has one scene only.
    """
    if row == "black_image":
        return lambda token: blackened(scenes.frame(token), folder)
    if row == "other_image":
        partner = partners({token: scene for scene in scenes.split(split) for token in scenes.tokens_of_scene(scene)})
        return lambda token: with_images_of(scenes.frame(token), scenes.frame(partner[token]))
    return scenes.frame
