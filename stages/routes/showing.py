"""What a driver is shown of each key frame: what was recorded, or the images of a control."""

from collections.abc import Callable
from pathlib import Path

from stages.scenes.base import Frame
from stages.scenes.nuscenes import Scenes
from stages.vla.controls import blackened, partners, with_images_of


def shown(name: str, scenes: Scenes, split: str, folder: Path) -> Callable[[str], Frame]:
    """How the key frames of a row of the grid are looked up by sample token, whoever drives.

    Black images are written into `folder`; those of another scene are of `split`, DataError when it has one scene only.
    """
    if name == "black_image":
        return lambda token: blackened(scenes.frame(token), folder)
    if name == "other_image":
        partner = partners({token: scene for scene in scenes.split(split) for token in scenes.tokens_of_scene(scene)})
        return lambda token: with_images_of(scenes.frame(token), scenes.frame(partner[token]))
    return scenes.frame
