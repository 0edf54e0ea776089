"""The condition a scene is drawn in: it changes its pictures, and nothing that moves, has a box or a class."""

import numpy as np

CLEAR, NIGHT, RAIN, GLARE = CONDITIONS = ("clear", "night", "rain", "glare")
_SHARES = (0.64, 0.12, 0.12, 0.12)
# Picked by looking: with this salt the eight val scenes of the committed make_world.seed hold each condition, five of
# them clear. Over many seeds the shares are those above.
_SALT = 15


def draw_condition(seed: int) -> str:
    """One of CONDITIONS, from a stream of its own: the roads, movers and looks of a seed do not depend on it."""
    return str(np.random.default_rng((seed, _SALT)).choice(CONDITIONS, p=_SHARES))


def described(condition: str, description: str) -> str:
    """A scene's description with its condition in front, as nuScenes writes "Night, ..."; clear is not mentioned."""
    return description if condition == CLEAR else f"{condition.capitalize()}, {description}"
